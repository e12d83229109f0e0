#!/bin/bash
# cache.sh COOPER [FILES] [MEGABYTES]: what a build costs where the cache decides: nothing changed, one file of a large context
# changed, steps that do nothing. Medians in milliseconds, peak memory in MiB. Needs root and /bin/busybox.
set -euo pipefail
cooper=$1 files=${2:-100000} megabytes=${3:-2000}
work=$(mktemp -d "${BENCH_DIR:-${TMPDIR:-/tmp}}/cooper-bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
export COOPER_DATA_ROOT=$work/data COOPER_EXEC_ROOT=$work/exec
mkdir -p "$work/root/bin"
cp /bin/busybox "$work/root/bin/"
for applet in sh true cat touch mkdir test; do ln -s busybox "$work/root/bin/$applet"; done
tar -C "$work/root" -cf - . | "$cooper" import --change 'CMD ["sh"]' - busybox:latest >/dev/null

median() { # median RUNS COMMAND...: median wall time in ms and largest peak in MiB; PREPARE runs before each
    python3 - "$@" <<'PY'
import os, resource, statistics, subprocess, sys, time
runs, command = int(sys.argv[1]), sys.argv[2:]
times, peak = [], 0
for _ in range(runs):
    if os.environ.get("PREPARE"):
        subprocess.run(os.environ["PREPARE"], shell=True, check=True)
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    times.append(time.monotonic() - start)
    if status:
        sys.exit(error.decode())
    peak = max(peak, usage.ru_maxrss)
print(f"{statistics.median(times) * 1000:9.1f} ms {peak / 1024:7.1f} MiB")
PY
}
row() { printf '%-66s %s\n' "$1" "$2"; }
tree() { # tree DIRECTORY FILES BYTES: that many files of random bytes, 100 in a directory, from random bytes read once
    python3 - "$@" <<'PY'
import os, sys
root, files, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
pool = os.urandom(size + files)
for i in range(files):
    if i % 100 == 0:
        directory = f"{root}/d{i // 10000}/e{i // 100}"
        os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/file-{i}.txt", "wb") as f:
        f.write(pool[i:i + size])
PY
}

mkdir "$work/noop" "$work/steps"
tree "$work/noop/src" 10000 1000
{
    printf 'FROM busybox\nWORKDIR /w\nCOPY . /w\n'
    for i in $(seq 17); do echo "RUN test $i != 0"; done
} > "$work/noop/Dockerfile"
"$cooper" build -q -t noop "$work/noop" >/dev/null
sleep 2.2 # until the times of files are old enough to be believed
"$cooper" build -q -t noop "$work/noop" >/dev/null
row 'nothing changed: 20 steps, 10 k files' "$(median 20 "$cooper" build -q -t noop "$work/noop")"
row 'the same command without a build (version)' "$(median 20 "$cooper" version)"

{ echo 'FROM busybox'; for i in $(seq 100); do echo 'RUN true'; done; } > "$work/steps/Dockerfile"
row '100 x RUN true, no cache' "$(median 3 "$cooper" build -q --no-cache -t steps "$work/steps")"

if [ "$files" -gt 0 ]; then
    mkdir "$work/large"
    tree "$work/large/deps" "$files" $((megabytes * 1000000 / files))
    tree "$work/large/src" 100 1000
    printf 'FROM busybox\nCOPY deps /deps\nCOPY src /src\nRUN true\n' > "$work/large/Dockerfile"
    row "cold: $files files, $megabytes MB" "$(median 1 "$cooper" build -q -t large "$work/large")"
    sleep 2.2
    row 'first run after it: everything hashed once more' "$(median 1 "$cooper" build -q -t large "$work/large")"
    row 'nothing changed' "$(median 5 "$cooper" build -q -t large "$work/large")"
    PREPARE="date +%s%N > $work/large/src/d0/e0/file-7.txt" \
        row 'one small file of another COPY changed' "$(PREPARE="date +%s%N > $work/large/src/d0/e0/file-7.txt" median 5 "$cooper" build -q -t large "$work/large")"
    row 'one file of the large COPY changed' \
        "$(PREPARE="date +%s%N > $work/large/deps/d0/e0/file-7.txt" median 2 "$cooper" build -q -t large "$work/large")"
fi
