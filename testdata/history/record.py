#!/usr/bin/env python3
"""Records what docker build (BuildKit) makes of each case, for builder/tests/build/history.rs.

Needs a docker with buildx and an image busybox:latest without history of its own:
    docker import --change 'CMD ["sh"]' busybox.tar busybox:latest
DOCKER may name the command, such as "docker -H unix:///run/other.sock".
"""
import io, json, os, pathlib, shlex, subprocess, tarfile

docker = shlex.split(os.environ.get("DOCKER", "docker"))
for case in sorted(path.parent for path in pathlib.Path(__file__).parent.glob("*/Dockerfile")):
    flags = shlex.split((case / "flags").read_text())
    subprocess.run(docker + ["build", "--no-cache", "-q", "-t", "recorded", "-f", str(case / "Dockerfile")]
                   + flags + [str(case / "context")], check=True, stdout=subprocess.DEVNULL)
    saved = subprocess.run(docker + ["save", "recorded"], check=True, capture_output=True).stdout
    archive = tarfile.open(fileobj=io.BytesIO(saved))
    manifest = json.load(archive.extractfile("manifest.json"))
    config = json.load(archive.extractfile(manifest[0]["Config"]))
    for entry in config["history"]:
        entry.pop("created", None)
    found = {key: value for key, value in config.items() if key not in ("created", "rootfs", "moby.buildkit.cache.v0")}
    (case / "recorded.json").write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    print(case.name, len(config["history"]))
