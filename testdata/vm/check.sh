# Checks that need cgroup v2 or an old kernel; run as root inside the virtual machine.
export COOPER_DATA_ROOT=/data/cooper
failures=0
check() { # check NAME EXPECTED ACTUAL
    if [ "$2" = "$3" ]; then
        echo "ok: $1"
    else
        echo "not ok: $1: expected [$2], got [$3]"
        failures=$((failures + 1))
    fi
}
run() { cooper run --rm --network none "$@" 2>&1; }
wait_for() { # wait_for SECONDS COMMAND...: until it succeeds
    tries=$(($1 * 10)); shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "not ok: timed out: $*"; return 1; }
        sleep 0.1
    done
}
read -r kernel < /proc/version
echo "vm: $kernel"
cooper import --change 'CMD ["sh"]' /busybox.tar busybox >/dev/null || exit 1

# Starting a container takes a second here, so each is asked several questions; it answers in lines of `question=answer`.
said() { printf '%s\n' "$answers" | sed -n "s/^$1=//p"; }

# Processes
run busybox sh -c 'exit 7'
check 'passes the exit code on' 7 $?
check 'gives a terminal' '/dev/pts/0' "$(run -t busybox tty | tr -d '\r')"
check 'pipes stdin' piped "$(echo piped | run -i busybox cat)"

# Limits
answers=$(run -m 32m --pids-limit 12 --cpus 0.5 --cpuset-cpus 1 busybox sh -c '
    cd /sys/fs/cgroup
    for file in memory.max memory.swap.max pids.max cpu.max cpuset.cpus; do echo $file=$(cat $file); done
    echo cgroup=$(cat /proc/self/cgroup)
    echo mount=$(awk "\$5 == \"/sys/fs/cgroup\" {print \$6, \$(NF-2)}" /proc/self/mountinfo)
    echo mkdir=$(mkdir x 2>&1)
    echo ping=$(ping -c 1 127.0.0.1 | grep -o "1 packets received")')
check 'memory limit' 33554432 "$(said memory.max)"
check 'swap equals memory' 33554432 "$(said memory.swap.max)"
check 'pids limit' 12 "$(said pids.max)"
check 'cpu quota' '50000 100000' "$(said cpu.max)"
check 'cpuset' 1 "$(said cpuset.cpus)"
check 'cgroup namespace' '0::/' "$(said cgroup)"
check 'cgroup mount' 'ro,nosuid,nodev,noexec,relatime cgroup2' "$(said mount)"
check 'cgroup tree is read-only' "mkdir: can't create directory 'x': Read-only file system" "$(said mkdir)"
check 'loopback is up' '1 packets received' "$(said ping)"
check 'controllers are enabled for containers' 'cpuset cpu io memory pids' "$(cat /sys/fs/cgroup/cooper/cgroup.subtree_control)"
check 'fork bomb is held back' held \
    "$(run --pids-limit 8 busybox sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done' | grep -q 'fork: Resource temporarily unavailable' && echo held)"
check 'memory hog is killed' 137 \
    "$(cooper run --name hog --network none -m 16m busybox sh -c 'dd if=/dev/zero of=/dev/shm/x bs=1M count=60; tail /dev/zero' >/dev/null 2>&1; echo $?)"
check 'and reported as out of memory' true "$(cooper inspect --format '{{.State.OOMKilled}}' hog)"
cooper rm hog >/dev/null
cooper run -d --name killed --network none -m 16m busybox sleep 1000 >/dev/null
cooper kill killed >/dev/null
check 'a kill is not reported as one' '137 false' "$(cooper wait killed >/dev/null; cooper inspect --format '{{.State.ExitCode}} {{.State.OOMKilled}}' killed)"
cooper rm killed >/dev/null

# Devices: kmsg (1:11) is not among the allowed ones, zero (1:5) is
devices='for minor in 11 5; do
        mknod /tmp/$minor c 1 $minor; dd if=/tmp/$minor of=/dev/null bs=8192 count=1 2>/dev/null && echo $minor=allowed || echo $minor=denied
    done
    mkdir /sys/fs/cgroup/x 2>/dev/null && rmdir /sys/fs/cgroup/x && echo cgroup=writable'
answers=$(run --cap-add SYS_ADMIN --cap-add SYSLOG busybox sh -c "$devices")
check 'device access is filtered' denied "$(said 11)"
check 'but not that of harmless devices' allowed "$(said 5)"
answers=$(run --privileged busybox sh -c "$devices")
check 'nor that of the privileged' allowed "$(said 11)"
check 'whose cgroup tree is writable' writable "$(said cgroup)"

# Running containers
cooper run -d --name sleeper --network none -m 32m busybox sleep 1000 >/dev/null
group=$(ls -d /sys/fs/cgroup/cooper/*/)
check 'the process is in its cgroup' "$(cooper inspect --format '{{.State.Pid}}' sleeper)" "$(cat ${group}cgroup.procs)"
check 'exec joins the cgroup namespace' '0::/' "$(cooper exec sleeper cat /proc/self/cgroup)"
cooper exec -d sleeper sleep 999
check 'exec joins the cgroup' 2 "$(wc -l < ${group}cgroup.procs)"
cooper pause sleeper >/dev/null
check 'pause freezes' 'frozen 1' "$(grep frozen ${group}cgroup.events)"
check 'and is shown' 'paused' "$(cooper inspect --format '{{.State.Status}}' sleeper)"
cooper unpause sleeper >/dev/null
check 'unpause thaws' 'frozen 0' "$(grep frozen ${group}cgroup.events)"
cooper rm -f sleeper >/dev/null
check 'rm -f ends all processes' '' "$(ps | grep -v grep | grep 'sleep 99')"

# Mounts
mkdir -p /data/bind/below
mount -t tmpfs tmpfs /data/bind/below
echo bound > /data/bind/below/file
answers=$(run --read-only --tmpfs /t -v /data/bind:/rw -v /data/bind:/ro:ro busybox sh -c '
    echo file=$(cat /rw/below/file)
    for path in /ro/x /ro/below/x /rw/below/x /x /t/x; do touch $path 2>/dev/null && echo $path=written; done' | tr / _)
check 'binds are recursive' bound "$(said file)"
check 'what is written' '_rw_below_x=written _t_x=written' "$(echo $(printf '%s\n' "$answers" | grep written))"
check 'reaches the host' yes "$([ -e /data/bind/below/x ] && echo yes)"
umount /data/bind/below

# Builds
mkdir -p /data/context/many
cat > /data/context/Dockerfile <<'DOCKERFILE'
FROM busybox AS a
RUN echo built > /built && mkdir /old && mv /old /new && mv /new /newer
FROM busybox
COPY --from=a /built /copied
COPY file dir/
COPY --chmod=4711 --chown=12:34 file /owned
ADD archive.tar.gz /unpacked/
WORKDIR /srv/dir
RUN cat /copied /dir/file && rm /bin/vi && mv /dir /moved && ls > list
DOCKERFILE
echo content > /data/context/file
tar -C /data/context -czf /data/archive.tar.gz file
mv /data/archive.tar.gz /data/context/
cooper build -q -t built /data/context >/dev/null
check 'builds' 'built content content 4711 12 34 /srv/dir' \
    "$(run built sh -c 'echo $(cat /copied /moved/file /unpacked/file; stat -c "%a %u %g" /owned) $PWD; ls /bin/vi /dir 2>/dev/null')"
check 'and again from the cache' "$(cooper inspect --format '{{.Id}}' built)" "$(cooper build -q /data/context)"
(
    echo FROM busybox
    seq 1 70 | sed 's/.*/COPY file layer&/'
    echo 'RUN ls -d /layer* | wc -l > /count'
    echo FROM busybox
    echo COPY --from=0 /count /layer70 /
) > /data/context/many/Dockerfile
cooper build -q -t many -f /data/context/many/Dockerfile /data/context >/dev/null
check 'stacks seventy layers' '70 content' "$(run many sh -c 'echo $(cat /count /layer70)')"
cooper save -o /data/many.tar many && (export COOPER_DATA_ROOT=/data/loaded; cooper load -q -i /data/many.tar >/dev/null)
check 'which another store can load' 'content' "$(export COOPER_DATA_ROOT=/data/loaded; run many cat /layer70)"
rm -rf /data/many.tar

# The registry
cooper registry serve --listen 127.0.0.1:5000 2>/dev/null &
registry=$!
wait_for 20 wget -q -O - http://127.0.0.1:5000/v2/
check 'pulls from itself' 'built content' \
    "$(export COOPER_DATA_ROOT=/data/other; cooper pull -q 127.0.0.1:5000/built >/dev/null; run 127.0.0.1:5000/built sh -c 'echo $(cat /copied /moved/file)')"
kill $registry
wait $registry

# The daemon
(unset COOPER_DATA_ROOT; exec cooper daemon -H unix:///run/cooper.sock --data-root /data/cooper --exec-root /run/cooper 2>/data/daemon.log) &
daemon=$!
client() { (unset COOPER_DATA_ROOT; cooper -H unix:///run/cooper.sock "$@"); }
wait_for 20 client version
check 'runs through the daemon' 'hello 67108864' "$(client run --rm -m 64m busybox sh -c 'echo hello $(cat /sys/fs/cgroup/memory.max)')"
client run -d --name survivor busybox sleep 1000 >/dev/null
kill $daemon
wait $daemon
check 'the daemon ends cleanly' 0 $?
check 'containers outlive it' running "$(cooper --exec-root /run/cooper inspect --format '{{.State.Status}}' survivor)"
cooper --exec-root /run/cooper rm -f survivor >/dev/null
check 'leaves no cgroup behind' 0 "$(ls -d /sys/fs/cgroup/cooper/*/ 2>/dev/null | wc -l)"

# An engine in a container: it sits in the base cgroup itself, which must be empty before it can have limited children
mkdir /data/nested
nested='export COOPER_DATA_ROOT=/data/store PATH=/host/bin:/bin
    cooper import --change "CMD [\"sh\"]" /busybox.tar busybox >/dev/null
    echo $(cooper run --rm -m 24m busybox cat /sys/fs/cgroup/memory.max) $(cooper run --rm --pids-limit 9 busybox cat /sys/fs/cgroup/pids.max) \
        $(grep -c . /sys/fs/cgroup/cgroup.procs) $(cat /sys/fs/cgroup/init/cgroup.procs | grep -cx $$)'
set -- -v /bin:/host/bin:ro -v /busybox.tar:/busybox.tar:ro -v /data/nested:/data
for dir in /lib /lib64 /usr/lib; do
    [ ! -d $dir ] || set -- "$@" -v $dir:$dir:ro
done
check 'an engine moves out of the way of its containers' '25165824 9 0 1' "$(run --privileged "$@" busybox sh -c "$nested")"

check 'the kernel did not complain' '' "$(dmesg | grep -i 'overlayfs\|cgroup: .*\(invalid\|fail\)\|WARNING:\|BUG:')"

# An unprivileged user with a delegated part of the tree, as systemd gives one, and with no ids but its own
echo 'user:x:1000:1000::/data/user:/bin/sh' >> /etc/passwd
mkdir -p /data/user/run /sys/fs/cgroup/user/session
chmod 755 /data
chmod 700 /data/user/run
chown -R 1000:1000 /data/user
for dir in /sys/fs/cgroup/user /sys/fs/cgroup/user/session; do
    chown 1000:1000 $dir $dir/cgroup.procs $dir/cgroup.threads $dir/cgroup.subtree_control
done
as_user() { # as_user SCRIPT: in the delegated part
    (
        unset COOPER_DATA_ROOT
        echo 0 > /sys/fs/cgroup/user/session/cgroup.procs
        exec su user -c "cd /; export XDG_RUNTIME_DIR=/data/user/run; $1" 2>&1
    )
}
as_user 'cooper import --change "CMD [\"sh\"]" /busybox.tar busybox' >/dev/null
answers=$(as_user 'cooper run --rm -m 32m --pids-limit 12 busybox sh -c "
    echo id=\$(id -u) \$(cat /proc/self/uid_map)
    cd /sys/fs/cgroup
    echo limits=\$(cat memory.max pids.max)
    echo cgroup=\$(cat /proc/self/cgroup)
    echo mkdir=\$(mkdir x 2>&1)"')
check 'an unprivileged user is root of the own id' '0 0 1000 1' "$(said id)"
check 'has limits where they are delegated' '33554432 12' "$(said limits)"
check 'in a cgroup namespace' '0::/' "$(said cgroup)"
check 'that cannot be written' "mkdir: can't create directory 'x': Read-only file system" "$(said mkdir)"
as_user 'cooper run -d --name sleeper busybox sleep 1000' >/dev/null
check 'freezes them' 'sleeper paused' "$(as_user 'cooper pause sleeper; cooper inspect --format {{.State.Status}} sleeper' | xargs)"
check 'lets others in' inside "$(as_user 'cooper unpause sleeper >/dev/null; cooper exec sleeper echo inside')"
as_user 'cooper rm -f sleeper' >/dev/null
mkdir /data/user/context
printf 'FROM busybox\nRUN echo built > /built && rm /etc/group\nCOPY file /copied\n' > /data/user/context/Dockerfile
echo content > /data/user/context/file
as_user 'cooper build -q -t built /data/user/context' >/dev/null
check 'and builds' 'built content gone' "$(as_user 'cooper run --rm built sh -c "echo \$(cat /built /copied); test -e /etc/group || echo gone"' | xargs)"
check 'leaves no cgroup behind either' 0 "$(ls -d /sys/fs/cgroup/user/cooper/*/ 2>/dev/null | wc -l)"
[ $failures = 0 ]
