#!/bin/bash
# usage (inside the guest of tests/vm/run, in a tree made by tests/vm/pack):
#	tests/vm/inside.sh [unit] [cli] [http] [TEST.py]...
#
# Runs what is named, by default all, as the ordinary user: the unit tests, the command line
# tests, and the HTTP tests through lighttpd against a service that the installed copy of
# scripts/serve runs. Passes on what the tests say and ends with 1 when one failed.
set -u -o pipefail

cd "$(dirname "$(readlink -f "$0")")/../.." || exit 125
[ $# -gt 0 ] || set -- unit cli http
failed=0

echo "# $(uname -sr), $(id -un), $(nproc) processors"
export CGIBOX_BUILD=$PWD/build CGIBOX_TEST_SERVE=$PWD/build/install/libexec/cgibox/serve

run_cli() {
	local tests

	shopt -s nullglob
	tests=(tests/cli/*.sh tests/cli/*.t tests/cli/*.py)
	[ ${#tests[@]} = 0 ] || prove -v "${tests[@]}"
}

py=()
for what; do
	case $what in
	unit) prove -v -e '' build/unit/* || failed=1 ;;
	cli) run_cli || failed=1 ;;
	http)
		for t in contract run patch archive; do
			py+=("tests/http/daiv-$t.py")
		done
		py+=(tests/http/system.py)
		;;
	*.py) py+=("tests/http/$(basename "$what")") ;;
	*)
		sed -n '2,4s/^# \{0,1\}//p' "$0"
		exit 125
		;;
	esac
done
[ ${#py[@]} = 0 ] || tests/http/run lighttpd "${py[@]}" || failed=1
exit $failed
