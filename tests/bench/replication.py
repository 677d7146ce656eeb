#!/usr/bin/env python3
"""How soon a change is at the other end, and what it costs on the wire: sibfs
beside rsync, Unison, lsyncd and Syncthing, all over loopback, in one run.

    tests/bench/replication.py [--tools sibfs,rsync] [--scenarios mid,tree]
                               [--reps 3] [--scale 1.0] [--limit 20mbps]

Needs root (a network namespace of its own, in which there is nothing but
loopback: no tool reaches anything else) and sshd; installs the other tools from
Debian if they are missing (--no-install: leaves them out).  Times are from the
return of the last system call at one end to the moment the other end shows the
result.  For tools that run once (rsync) the run is what is timed.  Repetitions
of the tools take turns.  Bytes are all that crossed loopback.
"""
import argparse, json, os, random, re, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
SIBFS = os.path.realpath(os.environ.get("SIBFS", os.path.join(TOP, "sibfs")))
DEBIAN = {"rsync": "rsync", "unison": "unison", "lsyncd": "lsyncd", "syncthing": "syncthing"}
PATIENCE = 120


def run(*cmd, check=True, **kw):
    kw.setdefault("stdout", subprocess.DEVNULL)
    kw.setdefault("stderr", subprocess.PIPE)
    p = subprocess.run(cmd, stdin=subprocess.DEVNULL, **kw)
    if check and p.returncode:
        raise RuntimeError(f"{' '.join(cmd)}: exit {p.returncode}: {(p.stderr or b'').decode()[-500:]}")
    return p


def wire_bytes():
    for line in open("/proc/net/dev"):
        if line.strip().startswith("lo:"):
            return int(line.split(":")[1].split()[0])
    return 0


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait(condition, what, every=0.002, patience=PATIENCE):
    end = time.time() + patience
    while True:
        try:
            if condition():
                return time.time()
        except OSError:
            pass
        if time.time() > end:
            raise RuntimeError(f"not within {patience} s: {what}")
        time.sleep(every)


class Ssh:
    """A real sshd on loopback, its keys, and how to reach it."""

    def __init__(self, top):
        self.dir = os.path.join(top, "ssh")
        os.mkdir(self.dir, 0o700)
        self.port = free_port()
        for key in "host", "user":
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{self.dir}/{key}")
        shutil.copy(f"{self.dir}/user.pub", f"{self.dir}/authorized_keys")
        words = open(f"{self.dir}/host.pub").read().split()[:2]
        self.known = f"{self.dir}/known_hosts"
        with open(self.known, "w") as f:
            f.write(f"[127.0.0.1]:{self.port} {' '.join(words)}\n")
        with open(f"{self.dir}/config", "w") as f:
            f.write(f"""ListenAddress 127.0.0.1
Port {self.port}
HostKey {self.dir}/host
AuthorizedKeysFile {self.dir}/authorized_keys
PidFile {self.dir}/pid
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
SetEnv PATH={os.path.dirname(SIBFS)}:{os.environ['PATH']} SIBFS_KNOWN_HOSTS={self.known} HOME={top}/home
""")
        os.makedirs("/run/sshd", exist_ok=True)
        self.proc = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", f"{self.dir}/config", "-E", f"{self.dir}/log"])
        wait(lambda: socket.create_connection(("127.0.0.1", self.port), 1).close() or True, "sshd", 0.05, 10)

    def options(self, cipher="aes128-ctr"):
        return ["-p", str(self.port), "-i", f"{self.dir}/user", "-o", f"UserKnownHostsFile={self.known}",
                "-o", "IdentitiesOnly=yes", "-c", cipher]

    def stop(self):
        self.proc.terminate()
        self.proc.wait()


class Tool:
    """Keeps self.b like self.a."""
    once = False

    def __init__(self, top, ssh):
        self.top, self.ssh, self.procs = top, ssh, []
        self.a, self.b = f"{top}/a", f"{top}/b"
        os.mkdir(self.a)
        os.mkdir(self.b)

    def start(self):
        pass

    def sync(self):
        """Runs until both ends are equal; tools that watch do it by themselves."""

    def spawn(self, *cmd, **kw):
        kw.setdefault("stdout", subprocess.DEVNULL)
        kw.setdefault("stderr", subprocess.DEVNULL)
        self.procs.append(subprocess.Popen(cmd, stdin=subprocess.DEVNULL, start_new_session=True, **kw))

    def stop(self):
        for p in self.procs:
            os.killpg(p.pid, signal.SIGTERM)
        for p in self.procs:
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(p.pid, signal.SIGKILL)
                p.wait()


class Sibfs(Tool):
    transport = None

    def start(self):
        os.environ["SIBFS_KNOWN_HOSTS"] = self.ssh.known
        for name, mnt in ("a", self.a), ("b", self.b):
            run(SIBFS, "init", f"{self.top}/{name}.store", "--node", name, "--set", "bench")
        run(SIBFS, "peer", "add", f"{self.top}/a.store", "b", f"ssh://127.0.0.1:{self.ssh.port}{self.top}/b.store",
            "--identity", f"{self.ssh.dir}/user")
        if self.transport:
            with open(f"{self.top}/a.store/.sibfs/config") as f:
                text = f.read()
            with open(f"{self.top}/a.store/.sibfs/config", "w") as f:
                f.write(re.sub(r'(\[peer "?b"?\]\n)', rf"\1transport = {self.transport}\n", text))
        run(SIBFS, "mount", f"{self.top}/a.store", self.a)
        run(SIBFS, "mount", f"{self.top}/b.store", self.b)
        run(SIBFS, "sync", f"{self.top}/a.store", "b")

    def stop(self):
        for mnt in self.a, self.b:
            run(SIBFS, "umount", mnt, check=False)


class SibfsSsh(Sibfs):
    transport = "ssh"


class Rsync(Tool):
    once = True
    options = ()

    def sync(self):
        run("rsync", "-a", "--delete", *self.options, "-e", " ".join(["ssh"] + self.ssh.options()),
            self.a + "/", f"127.0.0.1:{self.b}/")


class RsyncZlib(Rsync):
    options = ("-z", "--zc=zlib")


class Unison(Tool):
    def start(self):
        env = dict(os.environ, UNISON=f"{self.top}/unison", HOME=f"{self.top}/home")
        self.spawn("unison", self.a, f"ssh://127.0.0.1/{self.b}", "-batch", "-auto", "-repeat", "1", "-prefer", "newer",
                   "-sshargs", " ".join(self.ssh.options()), "-ui", "text", "-times", "-fastcheck", "true", env=env)


class Lsyncd(Tool):
    def start(self):
        with open(f"{self.top}/lsyncd.lua", "w") as f:
            f.write(f"""settings {{ nodaemon = true, logfile = "{self.top}/lsyncd.log" }}
sync {{ default.rsyncssh, source = "{self.a}", host = "127.0.0.1", targetdir = "{self.b}", delay = 1,
  rsync = {{ archive = true }},
  ssh = {{ port = {self.ssh.port}, identityFile = "{self.ssh.dir}/user",
    options = {{ UserKnownHostsFile = "{self.ssh.known}", Ciphers = "aes128-ctr" }} }} }}
""")
        self.spawn("lsyncd", f"{self.top}/lsyncd.lua")


class Syncthing(Tool):
    """Loopback alone: nothing announced, nothing relayed, nothing reported."""

    def config(self, name, port, gui, ids, ports, path):
        devices = "".join(f'<device id="{ids[n]}" name="{n}"><address>tcp://127.0.0.1:{ports[n]}</address>'
                          "<autoAcceptFolders>false</autoAcceptFolders></device>" for n in ids)
        return f"""<configuration version="35">
<folder id="bench" label="bench" path="{path}" type="sendreceive" rescanIntervalS="3600" fsWatcherEnabled="true"
 fsWatcherDelayS="1">{"".join(f'<device id="{i}"></device>' for i in ids.values())}</folder>{devices}
<gui enabled="true" tls="false"><address>127.0.0.1:{gui}</address><apikey>bench</apikey></gui>
<options><listenAddress>tcp://127.0.0.1:{port}</listenAddress><globalAnnounceEnabled>false</globalAnnounceEnabled>
<localAnnounceEnabled>false</localAnnounceEnabled><relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled>
<urAccepted>-1</urAccepted><crashReportingEnabled>false</crashReportingEnabled><startBrowser>false</startBrowser>
<autoUpgradeIntervalH>0</autoUpgradeIntervalH><stunKeepaliveStartS>0</stunKeepaliveStartS>
<reconnectionIntervalS>1</reconnectionIntervalS></options></configuration>"""

    def start(self):
        homes = {n: f"{self.top}/st-{n}" for n in "ab"}
        env = dict(os.environ, HOME=f"{self.top}/home", STNOUPGRADE="1")
        ids, ports = {}, {n: free_port() for n in "ab"}
        for n, home in homes.items():
            run("syncthing", "generate", "--home", home, env=env)
            ids[n] = run("syncthing", "--device-id", "--home", home, env=env, stdout=subprocess.PIPE
                         ).stdout.decode().strip()
        for n, home in homes.items():
            path = self.a if n == "a" else self.b
            os.makedirs(f"{path}/.stfolder", exist_ok=True)
            with open(f"{home}/config.xml", "w") as f:
                f.write(self.config(n, ports[n], free_port(), ids, ports, path))
            self.spawn("syncthing", "serve", "--no-browser", "--no-restart", "--home", home, env=env)


TOOLS = {"sibfs": Sibfs, "sibfs-ssh": SibfsSsh, "rsync": Rsync, "rsync-zlib": RsyncZlib, "unison": Unison,
         "lsyncd": Lsyncd, "syncthing": Syncthing}


# ---- scenarios: prepare(tool), then change(tool) and arrived(tool) ----------

def write(path, data, mode="wb"):
    with open(path, mode) as f:
        f.write(data)


def noise(path, size, seed):
    r = random.Random(seed)
    with open(path, "wb") as f:
        while size > 0:
            f.write(r.randbytes(min(size, 1 << 22)))
            size -= 1 << 22


def same_file(x, y):
    return os.path.getsize(x) == os.path.getsize(y) and run("cmp", "-s", x, y, check=False).returncode == 0


class Scenario:
    title = ""
    every = 0.002  # between looks at the other end

    def __init__(self, scale, rep):
        self.scale, self.rep = scale, rep

    def prepare(self, t):
        write(f"{t.a}/first", b"first\n")

    def prepared(self, t):
        return os.path.getsize(f"{t.b}/first") == 6

    def check(self, t):
        """After it has shown: is it right?"""


class Small(Scenario):
    title = "a small file"
    times = 5

    def change(self, t):
        # Another size each time: rsync does not look at what else may differ.
        self.n = getattr(self, "n", 0) + 1
        self.data = b"%d %d\n" % (self.rep, time.monotonic_ns()) + b"." * self.n
        write(f"{t.a}/small", self.data)

    def arrived(self, t):
        return open(f"{t.b}/small", "rb").read() == self.data


class Tree(Scenario):
    every = 0.01
    title = "10,000 files of 1 to 8 KiB in 100 directories"

    def change(self, t):
        r = random.Random(self.rep)
        self.n, self.bytes = int(10000 * self.scale), 0
        for i in range(self.n):
            d = f"{t.a}/tree/d{i % 100:02d}"
            if i < 100:
                os.makedirs(d)
            data = r.randbytes(r.randrange(1024, 8192))
            write(f"{d}/f{i:05d}", data)
            self.bytes += len(data)

    def arrived(self, t):
        """All names, and all bytes: some tools send what is being written still."""
        there = [f for d in os.scandir(f"{t.b}/tree") for f in os.scandir(d.path) if f.name[0] == "f"]
        return len(there) == self.n and sum(f.stat().st_size for f in there) == self.bytes

    def check(self, t):
        # In favour of tools whose files have their sizes before their bytes.
        wait(lambda: run("diff", "-r", f"{t.a}/tree", f"{t.b}/tree", check=False).returncode == 0, "equal trees", 0.5, 30)


class Big(Scenario):
    title = "512 MiB that do not compress"
    size = 512 << 20

    def change(self, t):
        self.size = int(type(self).size * self.scale)
        noise(f"{t.a}/big", self.size, self.rep)

    def arrived(self, t):
        return os.path.getsize(f"{t.b}/big") == self.size

    def check(self, t):
        assert same_file(f"{t.a}/big", f"{t.b}/big")


class Text(Big):
    title = "256 MiB of text"
    size = 256 << 20

    def change(self, t):
        self.size = int(type(self).size * self.scale)
        r = random.Random(self.rep)
        words = [bytes(r.choices(b"etaoinshrdlu", k=r.randrange(2, 10))) for _ in range(5000)]
        with open(f"{t.a}/big", "wb") as f:
            left = self.size
            while left > 0:
                block = b" ".join(r.choices(words, k=40000))[:left]
                f.write(block)
                left -= len(block)


class Middle(Scenario):
    title = "4 KiB in the middle of 1 GiB"
    size = 1 << 30
    times = 3

    def prepare(self, t):
        self.size = int(type(self).size * self.scale)
        noise(f"{t.a}/large", self.size, 1)

    def prepared(self, t):
        return os.path.getsize(f"{t.b}/large") == self.size

    def change(self, t):
        self.at = random.randrange(self.size // 4096) * 4096
        self.data = os.urandom(4096)
        with open(f"{t.a}/large", "r+b") as f:
            f.seek(self.at)
            f.write(self.data)

    def arrived(self, t):
        with open(f"{t.b}/large", "rb") as f:
            f.seek(self.at)
            return f.read(len(self.data)) == self.data


class Append(Middle):
    title = "1000 bytes appended to 1 GiB"

    def change(self, t):
        self.data = os.urandom(1000)
        self.at = os.path.getsize(f"{t.a}/large")
        write(f"{t.a}/large", self.data, "ab")


class Insert(Middle):
    title = "100 bytes inserted at the start of 128 MiB"
    size = 128 << 20

    def change(self, t):
        self.at, self.data = 0, os.urandom(100)
        old = open(f"{t.a}/large", "rb").read()
        write(f"{t.a}/large", self.data + old)


class MoveDir(Scenario):
    title = "a directory of 5,000 files renamed"
    times = 3

    def prepare(self, t):
        self.name = "dir"
        os.mkdir(f"{t.a}/dir")
        for i in range(int(5000 * self.scale)):
            write(f"{t.a}/dir/{i}", b"%d\n" % i * 50)
        self.n = int(5000 * self.scale)

    def prepared(self, t):
        return len(os.listdir(f"{t.b}/dir")) == self.n

    def change(self, t):
        os.rename(f"{t.a}/{self.name}", f"{t.a}/{self.name}x")
        self.name += "x"

    def arrived(self, t):
        return os.path.isdir(f"{t.b}/{self.name}") and len(os.listdir(f"{t.b}/{self.name}")) == self.n


class Copy(Middle):
    title = "a file of 128 MiB copied"
    size = 128 << 20
    times = 1

    def change(self, t):
        shutil.copyfile(f"{t.a}/large", f"{t.a}/copy")

    def arrived(self, t):
        return os.path.getsize(f"{t.b}/copy") == self.size


class Behind(Scenario):
    title = "1 KiB while much is on its way"
    size = 1 << 30
    times = 5

    def prepare(self, t):
        super().prepare(t)

    def change(self, t):
        self.size = int(type(self).size * self.scale)
        if not os.path.exists(f"{t.a}/much"):
            noise(f"{t.a}/much", self.size, 7)
            time.sleep(3)
        self.data = os.urandom(1024)
        write(f"{t.a}/little", self.data)

    def arrived(self, t):
        return open(f"{t.b}/little", "rb").read() == self.data


SCENARIOS = {"small": Small, "tree": Tree, "big": Big, "text": Text, "mid": Middle, "append": Append,
             "insert": Insert, "movedir": MoveDir, "copy": Copy, "behind": Behind}


# ---- measuring --------------------------------------------------------------

def measure(tool_class, scenario, ssh):
    """A list of (seconds, bytes)."""
    top = tempfile.mkdtemp(prefix="sibfs-bench.")
    os.mkdir(f"{top}/home")
    tool = tool_class(top, ssh)
    out = []
    try:
        tool.start()
        scenario.prepare(tool)
        tool.sync()
        wait(lambda: scenario.prepared(tool), f"{scenario.title}: the start")
        time.sleep(2)
        for _ in range(getattr(scenario, "times", 1)):
            before = wire_bytes()
            scenario.change(tool)
            start = time.time()
            tool.sync()
            end = wait(lambda: scenario.arrived(tool), scenario.title, scenario.every)
            out.append((end - start, wire_bytes() - before))
            scenario.check(tool)
            time.sleep(0.3)
    finally:
        tool.stop()
        shutil.rmtree(top, ignore_errors=True)
    return out


def human(n):
    for unit in "B", "kB", "MB", "GB":
        if n < 1000 or unit == "GB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000


def report(title, results):
    print(f"\n{title}")
    base = results.get("sibfs")
    for name, r in results.items():
        if not r:
            print(f"  {name:11} failed")
            continue
        times = sorted(s for s, _ in r)
        line = f"  {name:11} {statistics.median(times):8.3f} s  ({times[0]:.3f} to {times[-1]:.3f}, {len(r)} times)"
        line += f"  {human(statistics.median(b for _, b in r)):>9}"
        if base and name != "sibfs":
            line += f"  {statistics.median(times) / statistics.median(s for s, _ in base):6.1f} times sibfs"
        print(line)
    sys.stdout.flush()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tools", default="sibfs,rsync,unison,lsyncd,syncthing")
    p.add_argument("--scenarios", default="small,tree,big,text,mid,append,insert,movedir,copy")
    p.add_argument("--reps", type=int, default=3)
    p.add_argument("--scale", type=float, default=1.0, help="of sizes and numbers")
    p.add_argument("--limit", help="a rate for tc's tbf on loopback, such as 20mbps")
    p.add_argument("--json", help="a file for all numbers")
    p.add_argument("--no-install", action="store_true")
    p.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = p.parse_args()
    names = args.tools.split(",")
    if not args.inside:
        missing = [DEBIAN[n.split("-")[0]] for n in names if n.split("-")[0] in DEBIAN and not shutil.which(n.split("-")[0])]
        if missing and not args.no_install:
            run("apt-get", "install", "-y", "--no-install-recommends", *missing,
                env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"))
        os.execvp("unshare", ["unshare", "--net", sys.executable, __file__, "--inside"] + sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # cleans up on its way out
    run("ip", "link", "set", "lo", "up")
    if args.limit:
        run("tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", args.limit, "burst", "128kb", "latency", "50ms")
    names = [n for n in names if n.startswith("sibfs") or shutil.which(n.split("-")[0])]
    top = tempfile.mkdtemp(prefix="sibfs-bench.")
    os.mkdir(f"{top}/home")
    os.environ.pop("SSH_AUTH_SOCK", None)
    os.environ["HOME"] = f"{top}/home"
    ssh = Ssh(top)
    everything = {}
    try:
        for key in args.scenarios.split(","):
            results = {n: [] for n in names}
            for rep in range(args.reps):
                for n in names:
                    try:
                        results[n] += measure(TOOLS[n], SCENARIOS[key](args.scale, rep), ssh)
                    except (RuntimeError, AssertionError, OSError) as e:
                        print(f"{n}, {key}: {e}", file=sys.stderr)
            report(SCENARIOS[key].title, results)
            everything[key] = results
    finally:
        ssh.stop()
        shutil.rmtree(top, ignore_errors=True)
    if args.json:
        write(args.json, json.dumps(everything, indent=1).encode())


if __name__ == "__main__":
    main()
