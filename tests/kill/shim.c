/* A library to preload: kills the process, or lets a call fail, at the k-th call that changes a file under a folder.
 *
 * SHIM_FOLDER  only calls on files in this folder (an absolute path) count
 * SHIM_AT      k: which call, from 1; 0: none, they are only counted
 * SHIM_FAULT   kill: the process group is killed; eio, enospc: the call fails; short: a write takes half of the bytes
 * SHIM_PHASE   kill before the call, after it, or in the middle: "torn", when half of the bytes are written
 * SHIM_EVERY   with eio, enospc and short: every k-th call instead of one
 * SHIM_REPORT  a file that gets a line about the call, "<pid> <name> <phase> <monotonic seconds> <path>"
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum phase { BEFORE, TORN, AFTER };
enum action { PASS, FAIL, KILL, SHORTEN };

static const char *folder, *report_path;
static long at, every;
static int fault_errno;
static enum action fault = PASS;
static enum phase phase = BEFORE;
static long count;

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("SHIM_FAULT"), *when = getenv("SHIM_PHASE"), *k = getenv("SHIM_AT");
    folder = getenv("SHIM_FOLDER");
    report_path = getenv("SHIM_REPORT");
    at = k ? atol(k) : 0;
    every = getenv("SHIM_EVERY") != NULL;
    if (when)
        phase = strcmp(when, "torn") == 0 ? TORN : strcmp(when, "after") == 0 ? AFTER : BEFORE;
    if (name) {
        fault = strcmp(name, "kill") == 0 ? KILL : strcmp(name, "short") == 0 ? SHORTEN : FAIL;
        fault_errno = strcmp(name, "enospc") == 0 ? ENOSPC : EIO;
    }
}

static int is_inside(const char *path)
{
    size_t length = folder ? strlen(folder) : 0;
    return length && strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static int path_of(int fd, char *path)
{
    char link[64];
    ssize_t length;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, PATH_MAX - 1);
    if (length < 0)
        return 0;
    path[length] = '\0';
    return 1;
}

static void tell(const char *call, const char *path)
{
    static const char *const names[] = {"before", "torn", "after"};
    struct timespec now;
    char line[PATH_MAX + 200];
    int fd, length;
    if (!report_path)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    length = snprintf(line, sizeof line, "%d %s %s %ld.%09ld %s\n", (int)getpid(), call, names[phase],
                      (long)now.tv_sec, now.tv_nsec, path);
    fd = (int)syscall(SYS_openat, AT_FDCWD, report_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd >= 0) {
        syscall(SYS_write, fd, line, (size_t)length);
        syscall(SYS_close, fd);
    }
}

static void die(void)
{
    syscall(SYS_kill, 0, SIGKILL);
    for (;;)
        pause();
}

/* Returns what to do about a call on `path`; does not return where the process is killed before it. */
static enum action decide(const char *call, const char *path)
{
    long number;
    if (fault == PASS || !is_inside(path))
        return PASS;
    number = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
    if (!at || (every ? number % at != 0 : number != at))
        return PASS;
    tell(call, path);
    if (fault == KILL && phase == BEFORE)
        die();
    return fault;
}

static enum action decide_fd(const char *call, int fd)
{
    char path[PATH_MAX];
    int saved = errno;
    enum action action = path_of(fd, path) ? decide(call, path) : PASS;
    errno = saved;
    return action;
}

static enum action decide_at(const char *call, int dirfd, const char *name)
{
    char path[PATH_MAX];
    size_t length;
    if (name[0] == '/' || dirfd == AT_FDCWD)
        return decide(call, name);
    if (!path_of(dirfd, path))
        return PASS;
    length = strlen(path);
    snprintf(path + length, sizeof path - length, "/%s", name);
    return decide(call, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* A call that writes `size` bytes; `whole` and `half` do it with all and with half of them. */
#define WRITES(call, fd, size, whole, half)                                                                            \
    do {                                                                                                               \
        ssize_t done;                                                                                                  \
        switch (decide_fd(call, fd)) {                                                                                 \
        case FAIL:                                                                                                     \
            errno = fault_errno;                                                                                       \
            return -1;                                                                                                 \
        case SHORTEN:                                                                                                  \
            return (size) > 1 ? (half) : (whole);                                                                      \
        case KILL:                                                                                                     \
            done = phase == TORN ? (half) : (whole);                                                                   \
            (void)done;                                                                                                \
            die(); /* fall through */                                                                                  \
        default:                                                                                                       \
            return (whole);                                                                                            \
        }                                                                                                              \
    } while (0)

/* Any other call, which is done or not. */
#define CALLS(action, real)                                                                                            \
    do {                                                                                                               \
        int done;                                                                                                      \
        switch (action) {                                                                                              \
        case FAIL:                                                                                                     \
            errno = fault_errno;                                                                                       \
            return -1;                                                                                                 \
        case KILL:                                                                                                     \
            done = phase == AFTER ? (real) : 0;                                                                        \
            (void)done;                                                                                                \
            die(); /* fall through */                                                                                  \
        default:                                                                                                       \
            return (real);                                                                                             \
        }                                                                                                              \
    } while (0)

static size_t total(const struct iovec *parts, int n)
{
    size_t size = 0;
    for (int i = 0; i < n; i++)
        size += parts[i].iov_len;
    return size;
}

/* Writes the first half of the bytes. */
static ssize_t write_half(int fd, const struct iovec *parts, int n)
{
    size_t left = total(parts, n) / 2;
    ssize_t done = 0;
    for (int i = 0; i < n && left; i++) {
        size_t size = parts[i].iov_len < left ? parts[i].iov_len : left;
        ssize_t more = syscall(SYS_write, fd, parts[i].iov_base, size);
        if (more < 0)
            return done ? done : more;
        done += more;
        left -= (size_t)more;
    }
    return done;
}

ssize_t write(int fd, const void *data, size_t size)
{
    WRITES("write", fd, size, REAL(write)(fd, data, size), REAL(write)(fd, data, size / 2));
}

ssize_t writev(int fd, const struct iovec *parts, int n)
{
    WRITES("writev", fd, total(parts, n), REAL(writev)(fd, parts, n), write_half(fd, parts, n));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    WRITES("pwrite", fd, size, REAL(pwrite)(fd, data, size, offset), REAL(pwrite)(fd, data, size / 2, offset));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    WRITES("pwrite", fd, size, REAL(pwrite64)(fd, data, size, offset), REAL(pwrite64)(fd, data, size / 2, offset));
}

int fsync(int fd) { CALLS(decide_fd("fsync", fd), REAL(fsync)(fd)); }
int fdatasync(int fd) { CALLS(decide_fd("fdatasync", fd), REAL(fdatasync)(fd)); }
int ftruncate(int fd, off_t size) { CALLS(decide_fd("ftruncate", fd), REAL(ftruncate)(fd, size)); }
int ftruncate64(int fd, off64_t size) { CALLS(decide_fd("ftruncate", fd), REAL(ftruncate64)(fd, size)); }
int truncate(const char *path, off_t size) { CALLS(decide("truncate", path), REAL(truncate)(path, size)); }
int truncate64(const char *path, off64_t size) { CALLS(decide("truncate", path), REAL(truncate64)(path, size)); }
int unlink(const char *path) { CALLS(decide("unlink", path), REAL(unlink)(path)); }
int rename(const char *from, const char *to) { CALLS(decide("rename", to), REAL(rename)(from, to)); }

int unlinkat(int dirfd, const char *path, int flags)
{
    CALLS(decide_at("unlink", dirfd, path), REAL(unlinkat)(dirfd, path, flags));
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    CALLS(decide_at("rename", to_fd, to), REAL(renameat)(from_fd, from, to_fd, to));
}

__attribute__((destructor)) static void end(void)
{
    if (fault != PASS && !at && count) {
        char line[64];
        snprintf(line, sizeof line, "%ld calls", count);
        tell("count", line);
    }
}
