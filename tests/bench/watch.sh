#!/bin/sh
# How long a sandbox is over a limit that the watchdog holds before it is ended: 20 runs (WATCH_RUNS) of
# each kind, on the machine as it is and with every processor busy four times over. Needs `make units`.
set -eu
build=${CGIBOX_BUILD:-$(dirname "$0")/../../build}
runs=${WATCH_RUNS:-20}
busy=

# shellcheck disable=SC2317 # called by the trap
stop() {
	for p in $busy; do kill "$p" 2>/dev/null || :; done
}
trap stop EXIT
trap 'exit 1' HUP INT TERM

all() {
	for kind in "many 512 256" "memfd 512 256" "stream 256 48" "tcp 256 48" "disk 512 128" "inodes 60000 5000"; do
		# shellcheck disable=SC2086 # mode, amount, limit
		"$build/unit/fcgi-watch" $kind "$runs" 2>/dev/null | grep '^# \|^not ok'
	done
}

echo "$(nproc) processors, load $(cut -d ' ' -f 1 /proc/loadavg)"
all
n=$((4 * $(nproc)))
for _ in $(seq $n); do
	sh -c 'while :; do :; done' &
	busy="$busy $!"
done
echo "$n busy loops"
all
