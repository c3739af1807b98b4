#!/bin/bash
# usage (inside the guest of tests/vm/run, in a tree made by tests/vm/pack, booted with
#	--append 'sysctl.kernel.core_pattern="|/usr/bin/touch /var/tmp/handled-%e"'):
#	tests/vm/core.sh
#
# A crash inside a sandbox does not call the host's handler of core files. TAP.
set -u
cd "$(dirname "$(readlink -f "$0")")/../.." || exit 125
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
# The handler runs on its own: 4 s for it, or $2 tenths. $1 is what the crashed program is called.
handled() {
	for _ in $(seq "${2:-40}"); do
		[ ! -e "/var/tmp/handled-$1" ] || return 0
		sleep 0.1
	done
	return 1
}
crash=$(mktemp -d)
trap 'rm -rf "$crash"' EXIT
chmod 755 "$crash"
for name in plain zero one inside lowered; do cp /bin/bash "$crash/$name"; done

grep -q '^|/usr/bin/touch' /proc/sys/kernel/core_pattern
ok $? "core_pattern names a program"
"$crash/plain" -c 'kill -SEGV $$'
handled plain 600
ok $? "control: a crash calls it"
prlimit --core=0:0 "$crash/zero" -c 'kill -SEGV $$'
handled zero 600
ok $? "control: also with a limit of 0"
prlimit --core=1:1 "$crash/one" -c 'kill -SEGV $$'
! handled one
ok $? "control: not with a limit of 1"
sandbox() { build/cgibox --state "$crash/state" run --bind "$crash:/crash" -- "/crash/$1" -c "$2"; }
sandbox inside 'kill -SEGV $$'
[ $? = 139 ]
ok $? "a crash in a sandbox is seen"
! handled inside
ok $? "and does not call it"
sandbox lowered 'ulimit -c 0; kill -SEGV $$'
[ $? = 139 ]
ok $? "a crash after setting the limit to 0"
! handled lowered
ok $? "does not either"
build/cgibox --state "$crash/state" doctor | grep -E '^ok +core-pattern '
ok $? "doctor knows"
prlimit --core=0:0 build/cgibox --state "$crash/state" doctor | grep -E '^weaker +core-pattern .*LimitCORE'
ok $? "and that a hard limit of 0 for the service is worse than none"
echo "1..$count"
exit $failed
