/* A driver of two NVIDIA GPUs, as far as the tests ask for it, for machines that have none. The second cannot tell its
   power, and after its third measurement it is lost. Put before a program by LD_LIBRARY_PATH as libnvidia-ml.so.1. */

enum { OK = 0, NOT_SUPPORTED = 3, GPU_IS_LOST = 15 };
typedef struct { unsigned long long total, unused, used; } memory;
typedef struct { unsigned gpu, memory; } utilization;

int nvmlInitWithFlags(unsigned flags) { (void)flags; return OK; }
int nvmlInit_v2(void) { return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **gpu) { *gpu = (void *)(index + 1L); return OK; }

int nvmlDeviceGetUtilizationRates(void *gpu, utilization *found) {
    static int asked = 0;
    if ((long)gpu == 2 && ++asked > 3)
        return GPU_IS_LOST;
    *found = (utilization){40 + (long)gpu, 7};
    return OK;
}

int nvmlDeviceGetMemoryInfo(void *gpu, memory *found) {
    *found = (memory){100, 60, 30 + (long)gpu};
    return OK;
}

int nvmlDeviceGetPowerUsage(void *gpu, unsigned *milliwatts) {
    *milliwatts = 123456;
    return (long)gpu == 2 ? NOT_SUPPORTED : OK;
}

int nvmlDeviceGetTemperature(void *gpu, int sensor, unsigned *celsius) {
    *celsius = 50 + (long)gpu;
    return sensor == 0 ? OK : NOT_SUPPORTED;
}
