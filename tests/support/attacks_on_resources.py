"""Attacks on what a machine has: processors, memory, disk."""

from lit_symbolic.verifiers.sandbox import Limits, Outcome
from sandbox_attack import (
    IPC,
    LANDLOCK,
    MOUNT,
    RLIMITS,
    SECCOMP,
    TMPFS,
    Attack,
    walls,
)

ended = frozenset({Outcome.EXITED, Outcome.SIGNALED, Outcome.MEMORY_LIMIT})
SMALL = Limits(wall_seconds=10.0, tmpfs_megabytes=4, file_megabytes=1, inodes=256, memory_megabytes=256)
BRIEF = Limits(wall_seconds=0.3)
PROCESSES = (
    Attack(
        "a fork bomb",
        "for (int i = 0; i < 64; ++i) { pid_t pid = fork(); if (pid == 0) { pause(); _exit(0); }"
        ' if (pid < 0) { perror("fork"); return 1; } } puts("BITES"); return 0;',
        walls(RLIMITS),
        cpp=True,
    ),
    Attack(
        "a fork bomb that never stops",  # without its layer it would not end: the bounded one above shows that
        "for (;;) fork(); return 0;",
        cpp=True,
        limits=BRIEF,
        outcomes=frozenset({Outcome.TIMEOUT}),
    ),
    Attack(
        "a fork bomb of Python",
        """
import os, signal
for _ in range(64):
    if os.fork() == 0:
        signal.pause()
print("BITES", flush=True)
""",
        walls(RLIMITS),
    ),
    Attack(
        "threads without end",
        """
import threading
stop = threading.Event()
threads = [threading.Thread(target=stop.wait) for _ in range(64)]
try:
    for thread in threads:
        thread.start()
    print("BITES")
finally:
    stop.set()
""",
        walls(RLIMITS),
    ),
    Attack(
        "a flood of zombies",  # removed as they come: the limit of processes would else be reached
        """
import os
for _ in range(40):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(0)
        os._exit(0)
    os.wait()
print("all ended")
""",
        says=b"all ended",
    ),
    Attack(
        "an endless loop",
        'while (clock() < 1.3 * CLOCKS_PER_SEC); puts("BITES"); return 0;',
        walls(RLIMITS),
        cpp=True,
        limits=Limits(wall_seconds=60.0, cpu_seconds=1),
        outcomes=frozenset({Outcome.TIMEOUT}),
    ),
    Attack(
        "sleep",  # stopped from outside, by the clock
        "import time\ntime.sleep(60)",
        limits=BRIEF,
        outcomes=frozenset({Outcome.TIMEOUT}),
    ),
    Attack(
        "ignoring every signal",  # SIGKILL can not be
        "for (int i = 1; i < 65; ++i) signal(i, SIG_IGN); kill(getppid(), SIGTERM); for (;;) pause();",
        cpp=True,
        limits=BRIEF,
        outcomes=frozenset({Outcome.TIMEOUT}),
    ),
    Attack(
        "ignoring the end of its processor time",  # the second signal, a second later, can not be
        "signal(SIGXCPU, SIG_IGN); for (;;); return 0;",
        cpp=True,
        limits=Limits(wall_seconds=60.0, cpu_seconds=1),
        outcomes=frozenset({Outcome.TIMEOUT}),
    ),
    Attack(
        "a double fork",  # the end of the command is the end of all: see the test that looks for what is left
        "if (fork() == 0) { if (fork() == 0) { setsid(); sleep(600); } _exit(0); } wait(nullptr); return 0;",
        cpp=True,
    ),
    Attack(
        "a daemon that outlives its parent and holds its output",
        'if (fork() == 0) { setsid(); chdir("/"); signal(SIGHUP, SIG_IGN); signal(SIGTERM, SIG_IGN); for (;;) sleep(600); } return 0;',
        cpp=True,
    ),
    Attack(
        "closing its output and going on",
        "close(0); close(1); close(2); for (;;) pause();",
        cpp=True,
        limits=BRIEF,
        outcomes=frozenset({Outcome.TIMEOUT}),
    ),
    Attack(
        "stopping itself",
        "kill(getpid(), SIGSTOP); for (;;) pause();",
        cpp=True,
        limits=BRIEF,
        outcomes=frozenset({Outcome.TIMEOUT}),
    ),
)

MEMORY = (
    Attack(
        "a memory bomb",
        'for (int i = 0; i < 24; ++i) { char* p = (char*)malloc(16 << 20); if (!p) { perror("malloc"); return 1; }'
        ' memset(p, 1, 16 << 20); } puts("BITES"); return 0;',
        walls(RLIMITS),
        cpp=True,
        limits=SMALL,
        outcomes=ended,
    ),
    Attack(
        "a memory bomb of new",
        'for (int i = 0; i < 24; ++i) { char* p = new char[16 << 20]; memset(p, 1, 16 << 20); } puts("BITES"); return 0;',
        walls(RLIMITS),
        cpp=True,
        limits=SMALL,
        outcomes=ended,
    ),
    Attack(
        "a memory bomb of Python", "kept = bytearray(400 << 20)\nprint('BITES')", walls(RLIMITS), limits=SMALL, outcomes=ended
    ),
    Attack(
        "mapping shared memory",
        "for (int i = 0; i < 24; ++i) { void* p = mmap(0, 16 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);"
        ' if (p == MAP_FAILED) return 1; } puts("BITES"); return 0;',
        walls(RLIMITS),
        cpp=True,
        limits=SMALL,
    ),
    Attack(
        "a file in memory",
        'import os\nfd = os.memfd_create("m")\nfor _ in range(8): os.write(fd, bytes(1 << 20))\nprint("BITES")',
        walls(RLIMITS),
        limits=SMALL,
    ),
    Attack(
        "shared memory by name",
        'int fd = shm_open("<SHM>", O_CREAT | O_RDWR, 0600); if (fd < 0) { perror("shm_open"); return 1; } puts("BITES"); return 0;',
        walls(MOUNT, LANDLOCK),
        cpp=True,
    ),
    Attack(
        "shared memory of the host's",
        'int id = shmget(<IPC_KEY>, 0, 0); if (id < 0) { perror("shmget"); return 1; } puts("BITES"); return 0;',
        walls(IPC, SECCOMP),
        cpp=True,
    ),
    Attack(
        "leaving a message queue behind",
        'int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600); if (id < 0) { perror("msgget"); return 1; }'
        ' puts("BITES"); msgctl(id, IPC_RMID, nullptr); return 0;',
        walls(SECCOMP),
        cpp=True,
    ),
    Attack(
        "descriptors without end",
        'for (int i = 0; i < 256; ++i) if (open("/dev/null", O_RDONLY) < 0) { perror("open"); return 1; } puts("BITES"); return 0;',
        walls(RLIMITS),
        cpp=True,
    ),
    Attack(
        "locking memory",
        'static char p[4096]; if (mlock(p, sizeof p)) { perror("mlock"); return 1; } puts("BITES"); return 0;',
        walls(RLIMITS),
        cpp=True,
    ),
)

DISK = (
    Attack(
        "one large file",
        'import sys\nfile = open("big", "wb")\nfor _ in range(3): file.write(bytes(1 << 20)); file.flush()\nprint("BITES")',
        walls(RLIMITS),
        limits=SMALL,
    ),
    Attack(
        "a sparse file",
        'import os\nos.truncate(os.open("big", os.O_CREAT | os.O_RDWR), 1 << 32)\nprint("BITES")',
        walls(RLIMITS),
        limits=SMALL,
    ),
    Attack(
        "filling the disk",
        """
try:
    for i in range(8):
        open(f"part{i}", "wb").write(bytes((1 << 20) - 1))
    print("BITES")
except OSError as error:
    print(error)
""",
        walls(TMPFS),
        limits=SMALL,
    ),
    Attack(
        "filling /tmp",
        """
import os
try:
    for i in range(8):
        open(f"{os.environ['TMPDIR']}/part{i}", "wb").write(bytes((1 << 20) - 1))
    print("BITES")
except OSError as error:
    print(error)
""",
        walls(TMPFS),
        limits=SMALL,
    ),
    Attack(
        "inodes without end",
        """
try:
    for i in range(512):
        open(f"empty{i}", "w").close()
    print("BITES")
except OSError as error:
    print(error)
""",
        walls(TMPFS),
        limits=SMALL,
    ),
    Attack(
        "folders in folders without end",
        """
import os
try:
    for i in range(512):
        os.mkdir("d")
        os.chdir("d")
    print("BITES")
except OSError as error:
    print(error)
""",
        walls(TMPFS),
        limits=SMALL,
    ),
    Attack(
        "endless output",  # no more is read, and the writer stopped: see the test of the amount
        'for (;;) puts("never enough");',
        cpp=True,
        outcomes=frozenset({Outcome.OUTPUT_LIMIT}),
    ),
    Attack(
        "endless errors",
        "import os\nwhile True: os.write(2, b'never enough' * 100)",
        outcomes=frozenset({Outcome.OUTPUT_LIMIT}),
    ),
    Attack(
        "a core dump",
        "struct rlimit all; getrlimit(RLIMIT_CORE, &all); all.rlim_cur = all.rlim_max; setrlimit(RLIMIT_CORE, &all);"
        ' if (fork() == 0) abort(); wait(nullptr); DIR* d = opendir("."); while (dirent* e = readdir(d))'
        ' if (!strncmp(e->d_name, "core", 4)) puts("BITES"); return 0;',
        walls(RLIMITS),
        cpp=True,
        limits=Limits(wall_seconds=20.0),
    ),
)
