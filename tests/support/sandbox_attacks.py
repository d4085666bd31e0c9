"""What a hostile answer may try, and which walls stand against it.

An attack prints ``BITES`` when it has reached its aim. In its source, ``<NAME>`` stands for a thing that the test set up for it to
go after, see ``targets`` in ``test_sandbox_attacks.py``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from lit_symbolic.verifiers.confinement import landlock
from lit_symbolic.verifiers.sandbox import Layer, Limits, Outcome

BITES = b"BITES"
MOUNT, PID, NETWORK, IPC, UTS = (
    Layer.MOUNT_NAMESPACE,
    Layer.PID_NAMESPACE,
    Layer.NETWORK_NAMESPACE,
    Layer.IPC_NAMESPACE,
    Layer.UTS_NAMESPACE,
)
TMPFS, LANDLOCK, SECCOMP, RLIMITS = Layer.TMPFS, Layer.LANDLOCK, Layer.SECCOMP, Layer.RLIMITS
NOBODY = frozenset({Layer.USER_NAMESPACE} if os.geteuid() == 0 else ())
"""The wall that only root is stopped by: not to be root."""


def _since(version: int) -> frozenset[Layer]:
    try:
        return frozenset({LANDLOCK} if landlock.abi() >= version else ())
    except OSError:
        return frozenset()


TCP_LANDLOCK, SCOPED_LANDLOCK = _since(4), _since(6)
"""Landlock, where the kernel's refuses TCP, and signals and abstract sockets to others."""


@dataclass(frozen=True)
class Attack:
    """One thing to try.

    Args:
        name: What it is.
        source: Python source, or the body of a C++ function with ``argv``.
        walls: Layers that contain it, each by itself; without all of them it bites. None: no layer, see the comment beside it.
        cpp: Whether it is C++.
        limits: Under which it runs.
        outcomes: One of these is how it ends.
        root_only: Whether it can be shown to bite only where root runs the tests.
        says: What it writes when it is contained.
    """

    name: str
    source: str
    walls: frozenset[Layer] | None = None
    cpp: bool = False
    limits: Limits = field(default_factory=lambda: Limits(wall_seconds=10.0))
    outcomes: frozenset[Outcome] = frozenset({Outcome.EXITED, Outcome.SIGNALED})
    root_only: bool = False
    says: bytes = b""


def walls(*layers: Layer | frozenset[Layer]) -> frozenset[Layer]:
    return frozenset().union(*(layer if isinstance(layer, frozenset) else {layer} for layer in layers))


ended = frozenset({Outcome.EXITED, Outcome.SIGNALED, Outcome.MEMORY_LIMIT})
SMALL = Limits(wall_seconds=10.0, tmpfs_megabytes=4, file_megabytes=1, inodes=256, memory_megabytes=256)
BRIEF = Limits(wall_seconds=0.3)
OPENS = """
try:
    if open({}).read(1):
        print("BITES")
except OSError as error:
    print(error)
"""
WRITES = """
try:
    with open({}, "a") as file:
        file.write("was here")
    print("BITES")
except OSError as error:
    print(error)
"""
CTYPES = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *arguments):
    return libc.syscall(ctypes.c_long(number), *(a if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments))
arm = os.uname().machine == "aarch64"
"""

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

FILES = (
    Attack("reading home", OPENS.format("<SECRET>"), walls(MOUNT, LANDLOCK)),
    Attack("reading home in C++", 'return fopen(<SECRET>, "r") ? puts("BITES") : 1;', walls(MOUNT, LANDLOCK), cpp=True),
    Attack("reading what only its owner may", OPENS.format("<PRIVATE>"), walls(MOUNT, LANDLOCK, NOBODY)),
    Attack("reading the project", OPENS.format("<PROJECT>"), walls(MOUNT, LANDLOCK)),
    Attack("reading /etc/passwd", OPENS.format('"/etc/passwd"'), walls(MOUNT, LANDLOCK)),
    Attack("reading /etc/passwd by dots", OPENS.format('"/usr/../work/../etc/passwd"'), walls(MOUNT, LANDLOCK)),
    Attack(
        "listing the host's root",
        'import os\ntry:\n    if len(os.listdir("/")) > 12: print("BITES")\nexcept OSError as error:\n    print(error)',
        walls(MOUNT, LANDLOCK),
    ),
    Attack(
        "a symbolic link that points out",
        'import os\nos.symlink(<SECRET>, "link")' + OPENS.format('"link"'),
        walls(MOUNT, LANDLOCK),
    ),
    Attack(
        "a hard link to what is outside",
        'import os\ntry:\n    os.link(<OPEN_FILE>, <BESIDE>)\n    print("BITES")\nexcept OSError as error:\n    print(error)',
        walls(MOUNT, LANDLOCK),
    ),
    Attack("writing outside", WRITES.format("<OPEN_FOLDER>" + ' + "/new"'), walls(MOUNT, LANDLOCK)),
    Attack("writing to a file outside", WRITES.format("<OPEN_FILE>"), walls(MOUNT, LANDLOCK)),
    Attack("writing to what is only readable", WRITES.format("<READABLE>"), walls(MOUNT, LANDLOCK)),
    Attack(
        "removing what is only readable",
        'import os\ntry:\n    os.unlink(<READABLE>)\n    print("BITES")\nexcept OSError as error:\n    print(error)',
        walls(MOUNT, LANDLOCK),
    ),
    Attack("writing to /dev/shm", WRITES.format('"/dev/shm<SHM>"'), walls(MOUNT, LANDLOCK)),
    Attack(
        "the environment's secrets",  # it is not inherited
        'import os\nif "<TOKEN>" in str(os.environ): print("BITES")',
    ),
    Attack(
        "the parents' environment in /proc",
        """
import os
for pid in os.listdir("/proc"):
    path = f"/proc/{pid}/environ"
    try:
        if b"<TOKEN>" in open(path, "rb").read():
            print("BITES")
    except OSError as error:
        pass
""",
        walls(MOUNT, LANDLOCK, NOBODY),
        root_only=True,
    ),
    Attack(
        "others' command lines in /proc",
        """
import os
for pid in os.listdir("/proc"):
    path = f"/proc/{pid}/cmdline"
    try:
        if b"<VICTIM_WORD>" in open(path, "rb").read():
            print("BITES")
    except OSError as error:
        pass
""",
        walls(MOUNT, LANDLOCK),
    ),
    Attack(
        "descriptors that were left open",  # all are closed before the command is executed
        'for (int fd = 3; fd < 1024; ++fd) if (fcntl(fd, F_GETFD) >= 0) puts("BITES"); return 0;',
        cpp=True,
    ),
    Attack("the host's name", 'import socket\nif socket.gethostname() == "<HOST>": print("BITES")', walls(UTS)),
    Attack(
        "devices of its own making",
        'import os, stat\ntry:\n    os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3))\n    print("BITES")\n'
        "except OSError as error:\n    print(error)",
    ),  # needs a capability, and there are none
    Attack("the terminal", OPENS.format('"/dev/tty"')),
    Attack("the machine's memory", OPENS.format('"/dev/mem"')),
)

NETWORK_ATTACKS = (
    Attack(
        "IPv4",
        'import socket\nsocket.create_connection(("127.0.0.1", <PORT>), 2)\nprint("BITES")',
        walls(NETWORK, SECCOMP, TCP_LANDLOCK),
    ),
    Attack(
        "IPv6",
        'import socket\nsocket.create_connection(("::1", <PORT6>), 2)\nprint("BITES")',
        walls(NETWORK, SECCOMP, TCP_LANDLOCK),
    ),
    Attack(
        "IPv4 in C++",
        "int s = socket(AF_INET, SOCK_STREAM, 0); sockaddr_in a{}; a.sin_family = AF_INET; a.sin_port = htons(<PORT>);"
        ' a.sin_addr.s_addr = htonl(INADDR_LOOPBACK); if (connect(s, (sockaddr*)&a, sizeof a)) { perror("connect"); return 1; }'
        ' puts("BITES"); return 0;',
        walls(NETWORK, SECCOMP, TCP_LANDLOCK),
        cpp=True,
    ),
    Attack(
        "a server for others",
        'import socket\ns = socket.socket()\ns.bind(("0.0.0.0", 0))\ns.listen()\nprint("BITES")',
        walls(SECCOMP, TCP_LANDLOCK),
    ),
    Attack(
        "a datagram",
        """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
s.sendto(b"ping", ("127.0.0.1", <UDP_PORT>))
if s.recv(4) == b"pong":
    print("BITES")
""",
        walls(NETWORK, SECCOMP),
    ),
    Attack(
        "a unix socket",
        "import socket\nsocket.socket(socket.AF_UNIX).connect(<UNIX>)\nprint('BITES')",
        walls(MOUNT, SECCOMP),
    ),
    Attack(
        "an abstract unix socket",
        "import socket\nsocket.socket(socket.AF_UNIX).connect(chr(0) + <ABSTRACT>)\nprint('BITES')",
        walls(NETWORK, SECCOMP, SCOPED_LANDLOCK),
    ),
    Attack(
        "a connected pair that is connected anew",
        """
import socket
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
a.connect(chr(0) + <ABSTRACT_DATAGRAM>)
a.send(b"hello")
print("BITES")
""",
        walls(NETWORK, SECCOMP, SCOPED_LANDLOCK),
    ),
    Attack(
        "asking the kernel about its network",
        "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)\nprint('BITES')",
        walls(SECCOMP),
    ),
)

OTHERS = (
    Attack(
        "killing a process of the host",
        "import os\ntry:\n    os.kill(<VICTIM>, 18)\n    print('BITES')\nexcept OSError as error:\n    print(error)",
        walls(PID, SCOPED_LANDLOCK, NOBODY),
    ),
    Attack(
        "killing its parent",  # the first process of a pid namespace takes no signal from inside
        "import os, signal, time\nfor number in (15, 9, 11, 19):\n    try:\n        os.kill(os.getppid() or 1, number)\n"
        "    except OSError as error:\n        print(error)\ntime.sleep(0.1)\nprint('still here')",
        says=b"still here",
    ),
    Attack(
        "killing all that it can",
        "import os, signal, time\nsignal.signal(15, signal.SIG_IGN)\ntry:\n    os.kill(-1, 15)\nexcept OSError: pass\n"
        "try:\n    os.kill(-1, 9)\nexcept OSError: pass\ntime.sleep(0.1)\nprint('still here')",
        says=b"still here",
    ),
    Attack(
        "starving its parent of its limits",
        CTYPES
        + "import resource\nfor kind in (0, 7):\n    try:\n        resource.prlimit(1, kind, (0, 0))\n        print('BITES')\n"
        "    except OSError as error:\n        print(error)",
    ),
    Attack(
        "ptrace",
        'if (ptrace(PTRACE_ATTACH, <VICTIM>, 0, 0)) { perror("ptrace"); return 1; } waitpid(<VICTIM>, nullptr, __WALL);'
        ' ptrace(PTRACE_DETACH, <VICTIM>, 0, 0); puts("BITES"); return 0;',
        walls(PID, SECCOMP, LANDLOCK, NOBODY),
        cpp=True,
        root_only=True,
    ),
    Attack(
        "ptrace of its own child",
        'if (ptrace(PTRACE_TRACEME, 0, 0, 0)) { perror("ptrace"); return 1; } puts("BITES"); return 0;',
        walls(SECCOMP),
        cpp=True,
    ),
    Attack(
        "reading another process's memory",
        "char here[1]; iovec mine{here, 1}, theirs{(void*)<VICTIM_ADDRESS>, 1};"
        ' if (process_vm_readv(<VICTIM>, &mine, 1, &theirs, 1, 0) != 1) { perror("readv"); return 1; } puts("BITES"); return 0;',
        walls(PID, SECCOMP, LANDLOCK, NOBODY),
        cpp=True,
        root_only=True,
    ),
    Attack(
        "setuid",
        'if (setuid(0) && seteuid(0) && setresuid(0, 0, 0)) { perror("setuid"); return 1; } puts("BITES"); return 0;',
        cpp=True,
    ),
    Attack(
        "a set-user-id file for later",
        'import os\nopen("mine", "w").close()\ntry:\n    os.chmod("mine", 0o4755)\n    print("BITES")\nexcept OSError as error:\n    print(error)',
        walls(SECCOMP),
    ),
    Attack(
        "a set-user-id file at once",
        'import os\ntry:\n    os.open("mine", os.O_CREAT | os.O_WRONLY, 0o4755)\n    print("BITES")\nexcept OSError as error:\n    print(error)',
        walls(SECCOMP),
    ),
    Attack(
        "namespaces of its own",
        'if (unshare(CLONE_NEWUSER)) { perror("unshare"); return 1; } puts("BITES"); return 0;',
        walls(SECCOMP),
        cpp=True,
    ),
    Attack(
        "namespaces of its child's",
        CTYPES + "pid = call(220 if arm else 56, 0x10000011, 0, 0, 0, 0)\nif pid == 0: os._exit(0)\nif pid > 0: print('BITES')",
        walls(SECCOMP),
    ),
    Attack(
        "namespaces by clone3",
        CTYPES + "if call(435, bytes(64), 64) >= 0 or ctypes.get_errno() != 38: print('BITES')",
        walls(SECCOMP),
    ),
    Attack(
        "mounting",
        'if (mount("tmpfs", "/work", "tmpfs", 0, "")) { perror("mount"); return 1; } puts("BITES"); return 0;',
        cpp=True,
    ),
    Attack("changing the root", 'if (chroot("/work")) { perror("chroot"); return 1; } puts("BITES"); return 0;', cpp=True),
    Attack("the kernel's keys", CTYPES + "if call(219 if arm else 250, 0, -3, 1) > 0: print('BITES')", walls(SECCOMP)),
    Attack("io_uring", CTYPES + "if call(425, 4, bytes(120)) >= 0: print('BITES')", walls(SECCOMP, RLIMITS)),
    Attack(
        "raising its own limits",
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nprint('BITES')",
        walls(RLIMITS),
    ),
)

ATTACKS = (*PROCESSES, *MEMORY, *DISK, *FILES, *NETWORK_ATTACKS, *OTHERS)

CPP_HEADER = """
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
"""


def cpp_program(attacks: tuple[Attack, ...]) -> str:
    """One program of many attacks: its first argument chooses."""
    functions = [f"static int attack{i}() {{ {attack.source} }}" for i, attack in enumerate(attacks)]
    cases = [f"case {i}: return attack{i}();" for i in range(len(attacks))]
    main = f"int main(int, char** argv) {{ setbuf(stdout, nullptr); switch (atoi(argv[1])) {{ {' '.join(cases)} }} return 9; }}"
    return "\n".join([CPP_HEADER, *functions, main])
