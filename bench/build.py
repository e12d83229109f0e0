#!/usr/bin/env python3
"""build.py COOPER IMAGES [CASE...]: builds beside those of the peers that answer here, in one run.

Peers: docker with BuildKit (`docker buildx build`, through DOCKER_HOST) and buildah ($BUILDAH, by default the one on PATH, with
$BUILDAH_FLAGS for hosts that need some).
Runs are interleaved (ours, theirs, ours, …); a row shows medians with the smallest and largest value, and theirs / ours.
$WORK is where contexts are made ($WORK_OF_BUILDAH: the same directory as buildah sees it, if it runs in another root).
A JSON document with every value goes to $RESULTS, if set. A peer that is not there, or fails, is an empty cell.
"""
import json
import os
import pathlib
import random
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

COOPER, IMAGES = sys.argv[1], pathlib.Path(sys.argv[2])
CASES = sys.argv[3:]
RUNS = int(os.environ.get("RUNS", "5"))
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
SEVEN_STAGES = """\
FROM busybox AS base
RUN mkdir -p /src /out && echo app:x:1000:1000::/:/bin/sh >> /etc/passwd
FROM base AS deps
COPY lock /src/lock
RUN for i in 1 2 3 4 5; do sha256sum /src/lock > /out/dep$i; done
FROM base AS files
COPY tree /src/tree
RUN find /src/tree -type f | wc -l > /out/count
FROM base AS blobs
COPY blobs /src/blobs
RUN cat /src/blobs/* | sha256sum > /out/blobs
FROM deps AS compile
COPY --from=files /src/tree /src/tree
RUN find /src/tree -type f | xargs cat | sha256sum > /out/tree
FROM compile AS test
RUN test -s /out/tree && cp /out/dep1 /out/tested
FROM busybox AS release
COPY --from=test /out /srv/out
COPY --from=blobs /out/blobs /srv/out/
COPY --from=blobs /src/blobs /srv/blobs
COPY --from=files /out/count /srv/out/
WORKDIR /srv
ENV A=b
USER 1000
CMD ["ls"]
"""


def sh(command, **kwargs):
    return subprocess.run(command, shell=isinstance(command, str), check=True, **{**QUIET, **kwargs})


def answers(command):
    try:
        return subprocess.run(command, **QUIET, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


class Peer:
    """How to build with one of them, and how to make it forget."""

    def __init__(self, name, build, forget, load, see=lambda path: str(path), version=()):
        self.name, self.forget, self.load, self.see = name, forget, load, see
        self.build = build
        self.version = subprocess.run(version, capture_output=True, text=True).stdout.strip() if version else ""

    def command(self, context, flags):
        return self.build + flags + [self.see(context)]


def peers(work):
    data = work / "data"
    ours = [COOPER, "--data-root", str(data)]
    found = [
        Peer(
            "cooper",
            ours + ["build", "-q", "-t", "bench"],
            [ours + ["rmi", "-f", "bench"], ours + ["builder", "prune", "-af"]],
            lambda name, tar: sh(ours + ["import", "--change", 'CMD ["sh"]', str(tar), name]),
            version=[COOPER, "--version"],
        )
    ]
    if answers(["docker", "buildx", "ls"]) and answers(["docker", "version"]):
        found.append(
            Peer(
                "docker",
                ["docker", "buildx", "build", "-q", "-t", "bench"],
                [["docker", "rmi", "-f", "bench"], ["docker", "builder", "prune", "-af"]],
                lambda name, tar: sh(["docker", "import", "--change", 'CMD ["sh"]', str(tar), name]),
                version=["docker", "version", "--format", "{{.Server.Version}}"],
            )
        )
    buildah = shlex.split(os.environ.get("BUILDAH", "buildah"))
    if answers(buildah + ["version"]):
        base = os.environ.get("WORK", "")
        seen = os.environ.get("WORK_OF_BUILDAH", base)

        def see(path):
            return str(path).replace(base, seen) if base else str(path)

        def load(name, tar):
            there = work / "import.tar"
            shutil.copy(tar, there)
            container = subprocess.run(buildah + ["from", "scratch"], check=True, capture_output=True, text=True).stdout.strip()
            sh(buildah + ["add", container, see(there), "/"])
            sh(buildah + ["config", "--cmd", "sh", container])
            sh(buildah + ["commit", container, f"docker.io/library/{name}"])
            sh(buildah + ["rm", container])

        found.append(
            Peer(
                "buildah",
                buildah + ["build", "-q", "--layers", "--pull=never", "-t", "bench"]
                + shlex.split(os.environ.get("BUILDAH_FLAGS", "")),
                [buildah + ["rmi", "-f", "bench"], buildah + ["rmi", "-p"]],
                load,
                see,
                buildah + ["version"],
            )
        )
    for peer in found:
        if peer.name != "cooper":
            peer.load("busybox", IMAGES / "busybox.tar")
    found[0].load("busybox", IMAGES / "busybox.tar")
    return found


def measure(name, peers, context, flags=(), before=None, forget=False, runs=None, unit=1):
    """Interleaved runs; `before(run)` changes the context; `forget` empties caches in front of every run."""
    values = {peer.name: [] for peer in peers}
    cpu = {peer.name: [] for peer in peers}
    failed = set()
    for run in range((runs or RUNS) + 1):
        for peer in peers:
            if peer.name in failed:
                continue
            if before:
                before(f"{run} {peer.name}")
            if forget:
                for command in peer.forget:
                    subprocess.run(command, **QUIET)
            os.sync()
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            start = time.monotonic()
            done = subprocess.run(peer.command(context, list(flags)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            took = time.monotonic() - start
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            if done.returncode:
                failed.add(peer.name)
                print(f"  {peer.name} failed: {done.stderr.decode(errors='replace').strip()[-300:]}", file=sys.stderr)
                continue
            # The first run fills caches of the file system.
            if run > 0:
                values[peer.name].append(took / unit)
                cpu[peer.name].append((after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime) / unit)
    row = {"name": name, "values": values, "client_cpu": cpu}
    show(row)
    return row


def show(row):
    ours = row["values"]["cooper"]
    cells = []
    for peer, values in row["values"].items():
        if not values:
            cells.append(f"{peer} {'—':>28}")
            continue
        median = statistics.median(values)
        ratio = "" if peer == "cooper" or not ours else f"  {median / statistics.median(ours):6.1f}x"
        cells.append(f"{peer} {median * 1000:9.1f} ms ({min(values) * 1000:.1f}-{max(values) * 1000:.1f}){ratio}")
    print(f"{row['name']:46s} " + "   ".join(cells), flush=True)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def seven_stages(work, peers):
    context = work / "seven"
    write(context / "Dockerfile", SEVEN_STAGES)
    write(context / "lock", "a=1\n" * 1000)
    rng = random.Random(1)
    for number in range(3000):
        write(context / f"tree/d{number % 60}/f{number}", f"{number}\n" * rng.randint(1, 300))
    (context / "blobs").mkdir()
    for number in range(15):
        (context / f"blobs/{number}").write_bytes(rng.randbytes(10_000_000))
    yield measure("7 stages, 3 k files, 150 MB: cold", peers, context, forget=True)
    yield measure("the same: nothing changed", peers, context, runs=RUNS * 2)


def hundred_runs(work, peers):
    context = work / "runs"
    write(context / "Dockerfile", "FROM busybox\n" + "".join(f"RUN true {i}\n" for i in range(100)))
    yield measure("100 uncached RUN true, each", peers, context, ["--no-cache"], runs=min(RUNS, 3), unit=100)


def many_files(work, peers):
    context = work / "many"
    files = int(os.environ.get("FILES", "100000"))
    write(context / "Dockerfile", "FROM busybox\nCOPY src /src\nCOPY last /last\n")
    block = random.Random(2).randbytes(1 << 20)
    size = int(os.environ.get("BYTES", "2000000000")) // files
    for number in range(files):
        path = context / f"src/{number % 100}/{number % 1000}/{number}"
        if number < 1000:
            path.parent.mkdir(parents=True, exist_ok=True)
        at = number * 7919 % (len(block) - size - 8)
        path.write_bytes(number.to_bytes(8, "little") + block[at : at + size - 8])

    def touch(run):
        write(context / "last", run)

    title = f"{files // 1000} k files, {files * size / 1e9:.0f} GB: another file changed"
    yield measure(title, peers, context, before=touch, runs=3)


def big_copy(work, peers):
    context = work / "big"
    write(context / "Dockerfile", "FROM busybox\nCOPY big /big\n")
    with open(context / "big", "wb") as file:
        rng = random.Random(3)
        for _ in range(128):
            file.write(rng.randbytes(8 << 20))
    yield measure("COPY of 1 GiB, cold", peers, context, forget=True, runs=3)


SUITES = {"seven": seven_stages, "runs": hundred_runs, "many": many_files, "big": big_copy}


def main():
    unknown = set(CASES) - set(SUITES)
    if unknown:
        sys.exit(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    work = pathlib.Path(tempfile.mkdtemp(prefix="cooper-bench-", dir=os.environ.get("WORK")))
    try:
        found = peers(work)
        for peer in found:
            print(f"{peer.name}: {peer.version.splitlines()[0] if peer.version else ''}")
        rows = []
        for name, suite in SUITES.items():
            if not CASES or name in CASES:
                rows.extend(suite(work, found))
        if results := os.environ.get("RESULTS"):
            pathlib.Path(results).write_text(json.dumps({"rows": rows}, indent=1))
    finally:
        shutil.rmtree(work, ignore_errors=True)


main()
