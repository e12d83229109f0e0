#!/bin/bash
# run.sh COOPER IMAGES: our numbers beside those of the peers that answer here (docker through DOCKER_HOST, podman), one run.
# Every line is a median of hyperfine runs; ratio = peer / ours.
set -euo pipefail
cooper=$1 images=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap '"$cooper" rm -f bench-rss >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
export COOPER_DATA_ROOT=$work/data
docker version >/dev/null 2>&1 && have_docker=1 || have_docker=
command -v podman >/dev/null && have_podman=1 || have_podman=

median() { # median LABEL COMMAND: seconds
    hyperfine --style none --warmup 2 --min-runs "${RUNS:-20}" ${PREPARE:+--prepare "$PREPARE"} --export-json "$work/out.json" --command-name "$1" "$2" >/dev/null 2>"$work/err" \
        || { cat "$work/err" >&2; return 1; }
    python3 -c "import json;print(json.load(open('$work/out.json'))['results'][0]['median'])"
}
row() { # row NAME OURS PEER-NAME PEER
    python3 - "$@" <<'PY'
import sys
name, ours, peer_name, peer = sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4]
tail = f"   {peer_name} {float(peer)*1000:9.1f} ms   ratio {float(peer)/ours:6.1f}" if peer else ""
print(f"{name:44s} cooper {ours*1000:8.1f} ms{tail}")
PY
}
compare() { # compare NAME OURS DOCKER PODMAN (commands; empty = no peer)
    local ours; ours=$(median cooper "$2")
    row "$1" "$ours" '' ''
    [ -z "$have_docker" ] || [ -z "$3" ] || row "$1" "$ours" docker "$(median docker "$3")"
    [ -z "$have_podman" ] || [ -z "$4" ] || row "$1" "$ours" podman "$(median podman "$4")"
}

"$cooper" import --change 'CMD ["sh"]' "$images/busybox.tar" busybox:latest >/dev/null
[ -z "$have_docker" ] || docker import --change 'CMD ["sh"]' "$images/busybox.tar" busybox:latest >/dev/null
[ -z "$have_podman" ] || podman import -q --change 'CMD ["sh"]' "$images/busybox.tar" docker.io/library/busybox:latest >/dev/null

compare 'run --rm --network none busybox true' \
    "$cooper run --rm --network none busybox true" \
    'docker run --rm --network none busybox true' \
    'podman run --rm --network none busybox true'
# Each from nothing, with nothing left to write from before.
forget="$cooper rmi -f debian:bookworm; docker rmi -f debian:bookworm; podman rmi -f debian:bookworm; $cooper system prune -f; sync"
PREPARE="{ $forget; } >/dev/null 2>&1" RUNS=5 compare "import of a $(($(stat -c %s "$images/debian.tar") / 1000000)) MB root file system" \
    "$cooper import $images/debian.tar debian:bookworm" \
    "docker import $images/debian.tar debian:bookworm" \
    "podman import -q $images/debian.tar docker.io/library/debian:bookworm"

mkdir "$work/context"
cat > "$work/context/Dockerfile" <<'DOCKERFILE'
FROM busybox AS build
WORKDIR /src
COPY data .
RUN cat * > /all && wc -c /all
FROM busybox
COPY --from=build /all /srv/all
ENV A=b
RUN test -s /srv/all
CMD ["wc", "/srv/all"]
DOCKERFILE
mkdir "$work/context/data"
for i in $(seq 200); do head -c 20000 /dev/urandom > "$work/context/data/$i"; done
compare 'rebuild, everything cached, 200 files' \
    "$cooper build -q -t cached $work/context" \
    "env DOCKER_BUILDKIT=0 docker build -q -t cached $work/context" \
    "podman build -q --layers -t cached $work/context"
RUNS=5 compare 'same build, --no-cache' \
    "$cooper build -q --no-cache -t cached $work/context" \
    "env DOCKER_BUILDKIT=0 docker build -q --no-cache -t cached $work/context" \
    "podman build -q --no-cache -t cached $work/context"

"$cooper" run -d --name bench-rss --network none busybox sleep 1000 >/dev/null
pid=$("$cooper" inspect --format '{{.State.Pid}}' bench-rss)
supervisor=$(awk '/^PPid:/ {print $2}' "/proc/$pid/status")
sleep 2 # it gives memory back once the container has settled
awk '/^VmRSS:/ {printf "%-44s cooper %8d KiB\n", "supervisor, resident, one idle container", $2}' "/proc/$supervisor/status"
"$cooper" rm -f bench-rss >/dev/null

# A layer far larger than the memory it may use: written sparse, so that the disk is not what is measured.
truncate -s 4G "$work/big"; mkdir "$work/bigroot"; mv "$work/big" "$work/bigroot/"
tar -C "$work/bigroot" -cf - . | "$cooper" import - big:latest >/dev/null
printf 'FROM big\nCOPY --from=big /big /copy\n' > "$work/Big"
peak() { # peak NAME COMMAND...: highest resident size of the process
    python3 - "$@" <<'PY'
import resource, subprocess, sys
subprocess.run(sys.argv[2:], check=True, stdout=subprocess.DEVNULL)
print(f"{sys.argv[1]:44s} cooper {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss/1024:8.1f} MiB")
PY
}
peak 'peak memory: build with a 4 GiB layer' "$cooper" build -q -f "$work/Big" -t big2 "$work/context"
"$cooper" registry serve --listen 127.0.0.1:5077 & server=$!
until curl -fs http://127.0.0.1:5077/v2/ >/dev/null; do sleep 0.05; done
"$cooper" tag big 127.0.0.1:5077/big
peak 'peak memory: push of it to our registry' "$cooper" push -q 127.0.0.1:5077/big
COOPER_DATA_ROOT=$work/other peak 'peak memory: pull of it from our registry' "$cooper" pull -q 127.0.0.1:5077/big
awk '/^VmHWM:/ {printf "%-44s cooper %8.1f MiB\n", "peak memory: registry while serving it", $2/1024}' "/proc/$server/status"
kill "$server"
