"""The kill loop: is everything there after a program was killed at any instant, and nothing that should not be?

``python -m tests.kill --runs 500 --mode time`` kills programs at random times, ``--mode flush`` in the middle of what
they do to their files. It prints what it found, keeps the folder of each run that lost or invented something, and then
exits with status 1.
"""
