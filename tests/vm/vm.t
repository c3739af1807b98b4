#!/bin/bash
# usage: tests/vm/vm.t [--tree DIR] [COMMAND]...
#
# Boots Debian 12's own kernel and checks what the design counts on there, then runs each COMMAND
# (one line of sh) in a copy of DIR, each in a machine of its own, side by side: its status is the result.
# Without --tree the tree is what tests/vm/pack makes; VM_MAKE="B=.. CC=.." goes to it. VM_TIMEOUT
# is for one command, in seconds; VM_CPUS: processors of a machine (1).
set -u -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
tree=
if [ "${1-}" = --tree ]; then
	tree=$2
	shift 2
fi
if ! command -v qemu-system-x86_64 >/dev/null || ! command -v mmdebstrap >/dev/null; then
	why="qemu-system-x86 and mmdebstrap are not installed: nothing was tried on kernel 6.1"
	echo "# $why" >&2
	[ "${MUST_WORK-}" != 1 ] || { echo "Bail out! $why"; exit 1; }
	echo "1..0 # SKIP $why"
	exit 0
fi

count=0 failed=0
ok() {
	count=$((count + 1))
	if [ "$1" = 0 ]; then
		echo "ok $count - $2"
	else
		failed=1
		echo "not ok $count - $2"
	fi
}
work=$(mktemp -d)
pids=()
# What a machine has said that is not done tells where it hangs.
# shellcheck disable=SC2317 # called by the trap
ended() {
	[ ${#pids[@]} = 0 ] || {
		kill "${pids[@]}" 2>/dev/null
		for i in "${!pids[@]}"; do
			echo "# cut short: ${names[$i]}"
			sed 's/^/    /' "$work/said-$((i + 1))"
		done
	}
	rm -rf "$work"
}
trap ended EXIT
trap 'exit 1' HUP INT TERM

# What must be there, and what must be missing: a fallback that this kernel does not need would
# not be tested by it.
expected() {
	sed 's/#.*//; /^[[:space:]]*$/d' <<-'EOF'
		unprivileged-userns ok
		all-namespaces ok
		landlock-abi 2
		openat2-beneath ok
		openat2-escape EXDEV            # the control: it does refuse
		close-range-cloexec ok
		memfd-exec-flag EINVAL          # since 6.3
		memfd-exec-sealed ok
		fchmodat2 ENOSYS                # since 6.6
		statmount ENOSYS                # since 6.8
		so-peerpidfd ENOPROTOOPT        # since 6.5
		seccomp-wait-killable ok
		clone3-pidfd-clear-sighand ok
		cgroup-delegated ok
		clone-into-cgroup ok
		tmpfs-user-xattr EOPNOTSUPP     # since 6.6
		disk-user-xattr ok
		overlay-userxattr ok
		overlay-volatile ok
		overlay-metacopy EINVAL
		overlay-redirect-dir EINVAL
		overlay-opaque-on-disk ok
		overlay-upper-on-tmpfs ok       # it mounts,
		overlay-opaque-on-tmpfs EIO     # and fails later: probe, never rely on the mount
		overlay-rename-lower-directory EXDEV
		overlay-whiteout-is-chardev ok
		overlay-nested-userns ok
		overlay-lower-by-proc-fd ok
		whiteout-mknod ok
		device-mknod EPERM
		fsopen-overlay ok
		fsconfig-lowerdir-plus EINVAL   # since 6.8
		fsconfig-value-300-bytes EINVAL # any kernel
		mount-500-lowers ok
		mount-501-lowers EINVAL         # any kernel
		mount-setattr-recursive ok
		open-tree-move-mount ok
		move-mount-beneath EINVAL       # since 6.5
		move-mount-into-nested ok
		idmapped-disk EPERM
		proc-subset-pid ok
		pid-max-of-namespace EACCES     # since 6.14
		user-sysctls-of-namespace ok
	EOF
}

"$here/run" --build-only
ok $? "the guest is built or was there"
[ $failed = 0 ] || { echo "Bail out! no guest"; exit 1; }

mkdir "$work/probe"
${CC:-gcc} -std=gnu11 -O1 -static -o "$work/probe/probe" "$here/probe.c"
ok $? "the probe compiles"
begin=$SECONDS
"$here/run" --tree "$work/probe" --timeout 600 -- sh -c 'id -u; mkdir d && ./probe d && exit 9' >"$work/facts"
[ $? = 9 ]
ok $? "the guest boots, runs a command and passes its status on"
echo "# $((SECONDS - begin)) s from start to end"
[ "$(head -n 1 "$work/facts")" = 1500 ]
ok $? "the command is not root's"
grep -q '^kernel 6\.1\.' "$work/facts"
ok $? "it is kernel 6.1: $(sed -n 's/^kernel //p' "$work/facts")"
while read -r name value; do
	got=$(sed -n "s/^$name //p" "$work/facts")
	[ "$got" = "$value" ]
	ok $? "$name: $value"
	[ "$got" = "$value" ] || echo "# got: ${got:-nothing}"
done < <(expected)

if [ $# -gt 0 ] && [ -z "$tree" ]; then
	tree=$work/tree
	# shellcheck disable=SC2086 # a list of words
	"$here/pack" "$tree" ${VM_MAKE-}
	ok $? "the tree for the guest is packed"
fi
# Machines run side by side where there is memory for them (2 GiB each): each mostly waits. What they say comes in
# order.
side_by_side=$(awk '$1 == "MemAvailable:" { print ($2 > 10 * 1024 * 1024) }' /proc/meminfo)
names=()
# boot NAME ARGUMENTS of tests/vm/run...
boot() {
	names+=("$1")
	"$here/run" --tree "$tree" --cpus "${VM_CPUS:-1}" "${@:2}" >"$work/said-${#names[@]}" 2>&1 &
	pids+=($!)
	[ "$side_by_side" = 1 ] || wait $!
}
for command; do
	boot "$command" --timeout "${VM_TIMEOUT:-1200}" -- sh -c "$command"
done
[ -z "$tree" ] || boot tests/vm/core.sh --timeout "${VM_TIMEOUT:-1800}" \
	--append 'sysctl.kernel.core_pattern="|/usr/bin/touch /var/tmp/handled-%e"' -- tests/vm/core.sh
for i in "${!names[@]}"; do
	wait "${pids[$i]}"
	status=$?
	unset "pids[$i]"
	sed 's/^/    /' "$work/said-$((i + 1))"
	ok $status "on kernel 6.1: ${names[$i]}"
done
echo "1..$count"
exit $failed
