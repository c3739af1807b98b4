#!/bin/bash
# usage (inside the guest of tests/vm/run, in a tree made by tests/vm/pack):
#	tests/vm/inside.sh [unit] [cli] [cgroup] [pasta] [attacks] [mutation] [http] [http-all] [TEST.py]...
#
# Runs what is named, by default all but mutation, as the ordinary user: the unit tests, the command line
# tests, the limits of control groups, networks by pasta, the attacks in scopes of the user's manager, and the HTTP
# tests through lighttpd against a service that the installed copy of scripts/serve runs: http is what the kernel
# has a part in. Control groups must be in force here. Passes on what the tests say and ends with 1 when one failed.
set -u -o pipefail

cd "$(dirname "$(readlink -f "$0")")/../.." || exit 125
[ $# -gt 0 ] || set -- unit cli cgroup pasta attacks http-all
failed=0

echo "# $(uname -sr), $(id -un), $(nproc) processors"
# A command may take long where everything does.
export CGIBOX_COMMAND_TIMEOUT_S=300
export CGIBOX_PROVE='-v --timer' CGIBOX_TEST_CGROUP=1 CGIBOX_BUILD=$PWD/build CGIBOX_TEST_SERVE=$PWD/build/install/libexec/cgibox/serve

run_cli() {
	local t tests=()

	shopt -s nullglob
	for t in tests/cli/*.sh tests/cli/*.t tests/cli/*.py; do
		case $t in
		*/cgroup.t | */pasta.py) ;; # have names of their own here
		*) tests+=("$t") ;;
		esac
	done
	[ ${#tests[@]} = 0 ] || prove -v --timer "${tests[@]}"
}

py=()
for what; do
	case $what in
	unit) prove -v --timer -e '' build/unit/* || failed=1 ;;
	cli) run_cli || failed=1 ;;
	cgroup)
		MUST_WORK=1 systemd-run --user --scope --quiet -p Delegate=yes \
			prove -v --timer tests/cli/cgroup.t || failed=1
		;;
	pasta) MUST_WORK=1 prove -v --timer tests/cli/pasta.py || failed=1 ;;
	attacks)
		systemd-run --user --scope --quiet -p Delegate=yes \
			prove -v --timer tests/attacks/run.t tests/attacks/posture.t || failed=1
		;;
	mutation) CGIBOX_MUTATION_BUILD=$PWD/build-mutation prove -v --timer tests/attacks/mutation.t || failed=1 ;;
	http) py+=(tests/http/{daiv-run,daiv-patch,system}.py) ;;
	http-all) py+=(tests/http/{daiv-contract,daiv-run,daiv-patch,daiv-archive,system}.py) ;;
	*.py) py+=("tests/http/$(basename "$what")") ;;
	*)
		sed -n '2,3s/^# \{0,1\}//p' "$0"
		exit 125
		;;
	esac
done
[ ${#py[@]} = 0 ] || tests/http/run lighttpd "${py[@]}" || failed=1
exit $failed
