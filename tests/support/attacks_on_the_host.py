"""Attacks on what is not the answer's: files, networks, processes, the kernel."""

from sandbox_attack import (
    LANDLOCK,
    MOUNT,
    NETWORK,
    NOBODY,
    PID,
    RLIMITS,
    SCOPED_LANDLOCK,
    SECCOMP,
    TCP_LANDLOCK,
    UTS,
    Attack,
    walls,
)

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
        "the environment's secrets",  # it is not inherited; the trainer's has the token
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
        "descriptors that were left open",  # all are closed before the command is executed; the trainer has one to inherit
        'for (int fd = 3; fd < 1024; ++fd) if (fcntl(fd, F_GETFD) >= 0) puts("BITES"); return 0;',
        cpp=True,
    ),
    Attack(
        "descriptors that were left open, in Python",  # the same where nothing is executed, but the interpreter forked
        "import os\nfor fd in range(3, 1024):\n    try:\n        os.fstat(fd)\n        print('BITES')\n    except OSError:\n        pass",
    ),
    Attack("the host's name", 'import socket\nif socket.gethostname() == "<HOST>": print("BITES")', walls(UTS)),
    Attack(
        "devices of its own making",
        'import os, stat\ntry:\n    os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3))\n    print("BITES")\n'
        "except OSError as error:\n    print(error)",
        walls(NOBODY, LANDLOCK),
        root_only=True,
    ),
    Attack("the terminal", OPENS.format('"/dev/tty"')),  # a session of its own: see the test that has a terminal
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
        "starving its parent of its limits",  # little enough that the parent lives where this bites, and tells of it
        CTYPES
        + "import resource\nfor kind in (0, 7):\n    try:\n        resource.prlimit(1, kind, (60, 60))\n        print('BITES')\n"
        "    except OSError as error:\n        print(error)",
        walls(NOBODY, SECCOMP),
        root_only=True,
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
        walls(NOBODY),
        cpp=True,
        root_only=True,
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
        walls(NOBODY, SECCOMP, LANDLOCK),  # over its own folder, in a mount namespace of its own also where this bites
        cpp=True,
        root_only=True,
    ),
    Attack(
        "changing the root",
        'if (chroot("/work")) { perror("chroot"); return 1; } puts("BITES"); return 0;',
        walls(NOBODY, SECCOMP),
        cpp=True,
        root_only=True,
    ),
    Attack("the kernel's keys", CTYPES + "if call(219 if arm else 250, 0, -3, 1) > 0: print('BITES')", walls(SECCOMP)),
    Attack("io_uring", CTYPES + "if call(425, 4, bytes(120)) >= 0: print('BITES')", walls(SECCOMP, RLIMITS)),
    Attack(
        "raising its own limits",
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nprint('BITES')",
        walls(RLIMITS),
    ),
)
