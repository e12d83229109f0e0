#!/bin/bash
# The main job, end to end: build a real Dockerfile, serve the image, run it. Called by `make demo`.
set -euo pipefail
cooper=$1 images=$2
export COOPER_DATA_ROOT=$3
here=$(dirname "$0")
registry_port=5055 app_port=8080
step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
show() { printf '$ %s\n' "$*" | sed "s#$cooper#cooper#g"; "$@"; }
cleanup() {
    "$cooper" rm -f hello >/dev/null 2>&1 || true
    [ -z "${registry_pid:-}" ] || kill "$registry_pid" 2>/dev/null || true
}
trap cleanup EXIT
wait_for() { # wait_for SECONDS COMMAND...: until it succeeds
    local deadline=$((SECONDS + $1)); shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || { echo "timed out: $*" >&2; return 1; }
        sleep 0.05
    done
}
cleanup

step "Base images, made from Debian packages"
for name in busybox:latest debian:bookworm; do
    if ! "$cooper" inspect --type image "$name" >/dev/null 2>&1; then
        change='CMD ["sh"]'; [ $name = busybox:latest ] || change='CMD ["bash"]'
        show "$cooper" import --change "$change" "$images/${name/:*/}.tar" "$name"
    fi
done
show "$cooper" images

step "Build: two stages, a compiler in the first, 2 MB in the second"
show "$cooper" build --network host --progress plain -t hello:1 "$here"
show "$cooper" history hello:1

step "Serve: the registry hands out the layers straight from the store"
"$cooper" registry serve --listen 127.0.0.1:$registry_port & registry_pid=$!
wait_for 10 curl -fs http://127.0.0.1:$registry_port/v2/
show curl -fsS http://127.0.0.1:$registry_port/v2/hello/tags/list; echo
show curl -fsS -H 'Accept: application/vnd.oci.image.manifest.v1+json' http://127.0.0.1:$registry_port/v2/hello/manifests/1; echo
show skopeo inspect --tls-verify=false docker://127.0.0.1:$registry_port/hello:1

step "Run: isolated, and reached with curl"
show "$cooper" run -d --name hello --network host -m 64m --pids-limit 32 --read-only hello:1
wait_for 10 curl -fs http://127.0.0.1:$app_port/
show curl -fsS http://127.0.0.1:$app_port/
show "$cooper" exec hello sh -c 'id; ls /proc | grep -c "^[0-9]"; mount | grep -c . ; touch /x 2>&1 || true; cat /proc/1/cgroup | head -3'
show "$cooper" ps
show "$cooper" stop hello
show "$cooper" logs hello
show "$cooper" inspect --format '{{.State.Status}} {{.State.ExitCode}}' hello
show "$cooper" rm hello
show "$cooper" run --rm --network none busybox echo 'and that was that'
