#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A mistake on the command line is told and does nothing: an empty variable, bytes that are not UTF-8, an option that has no effect, a name that nobody knows;
# and what could not be written is no success.
. "$(dirname "$0")/lib.sh"
requires jq curl setpriv
requires_root

fails_with() { # STATUS TEXT COMMAND...
	local wanted=$1 text=$2 status=0
	shift 2
	refuses "$text" "$@"
	"$@" >/dev/null 2>&1 </dev/null || status=$?
	is "exit status of: $*" $status "$wanted"
}

start_pair
new_image "$W/a.raw" $((1 << 20))
cp "$W/a.raw" "$R/vm2.raw"
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
n=$(newest_point vm1)

# Bytes that are not UTF-8: what a daemon is asked with is refused, and changes nothing; what stays here may have any.
odd=$'bad\xff'
kagami pin "vm1@$n" 'ünï' >/dev/null
fails_with 2 'pin: TEXT: "bad\?" is not UTF-8' kagami pin "vm1@$n" "$odd"
is "text of the pin" "$(kagami pin "vm1@$n" 'ünï' --json | jq -r .replaced)" 'ünï'
kagami unpin "vm1@$n" >/dev/null
before=$(kagami retention vm1 --json | jq -c .retention)
fails_with 2 'retention: --keep: "bad\?" is not UTF-8' kagami retention vm1 --points 10 --keep "$odd"
fails_with 2 'set: --offpeak: "bad\?" is not UTF-8' kagami set vm1 --offpeak "$odd"
cp "$W/a.raw" "$W/$odd.raw"
fails_with 2 'seed: .*the path is not UTF-8' kagami seed vm9/vda "$W/$odd.raw" --format raw
fails_with 2 'seed: --peer: "bad\?" is not UTF-8' kagami seed vm9/vda "$W/a.raw" --format raw --peer "$odd"
fails_with 2 'protect: .*the path is not UTF-8' kagami protect vm2 vda="$W/$odd.raw" --to dr --rpo 1h
mkdir "$W/$odd"
fails_with 2 'mount: .*the path is not UTF-8' kagami mount vm1 "$W/$odd"
fails_with 2 'umount: .*the path is not UTF-8' kagami umount "$W/$odd"
kagami export vm1 "$W/$odd/out.raw" | grep -q "is at $W/bad?/out.raw: raw" || fail "the path of an export as it is shown"
cmp "$W/$odd/out.raw" "$W/a.raw"
is "path in the answer" "$(kagami export vm1 "$W/$odd/out.raw" --force --json | jq -r .path)" "$W/bad?/out.raw"
kagami bundle "$W/$odd/out.tar.gz" --json | jq -e '.path | endswith("bad?/out.tar.gz")' >/dev/null || fail "a bundle by a name of any bytes"

# An empty one is a variable of somebody's script that is not set.
fails_with 2 'retention: --keep is empty' kagami retention vm1 --keep ''
is "retention after all that was refused" "$(kagami retention vm1 --json | jq -c .retention)" "$before"
fails_with 2 'status: --run-dir is empty' kagami --run-dir '' status
fails_with 2 'umount: DIR is empty' kagami umount ''
fails_with 2 'mount: DIR is empty' kagami mount vm1 ''
fails_with 2 'export: OUT is empty' kagami export vm1 ''
fails_with 2 'bundle: OUT.tar.gz is empty' kagami bundle ''
fails_with 2 'store: STORE is empty' kagami store check ''
(cd "$W" && fails_with 2 'bundle: a bundle is a file: name one' kagami bundle -)
[ ! -e "$W/-" ] || fail "a bundle was made by the name of -"
kagami protect vm2 vda="$R/vm2.raw" --to dr --rpo 1h >/dev/null
fails_with 2 'scrub: --rate: "99999999T" is not a size|is too much' kagami scrub --all --rate 99999999T # told once, not for each of them

# A policy that is not what it looks like.
fails_with 2 'keep: a tier before 15m:3 has the same interval: give each interval once' kagami retention vm1 --keep 15m:24,1h:24,15m:3
fails_with 2 'keep: a tier before 1h:3 has the same interval' kagami retention vm1 --keep 1h:24,60m:3
is "retention after that" "$(kagami retention vm1 --json | jq -c .retention)" "$before"
at_target GET '/v1/protections/vm1/retention?cost=maybe' >"$W/out" 2>/dev/null || true
is "what cost may be" "$(jq -r .error.message "$W/out")" 'cost: "yes" is the only value'
kagami retention vm1 --points 24 --keep none >/dev/null
kagami events vm1 | grep -q 'retention of vm1 was set: 24 points$' || fail "the event of a policy without tiers: $(kagami events vm1)"
kagami retention vm1 --source >/dev/null

# A point that was never pinned.
events=$(kagami events vm1 --json | wc -l)
kagami unpin "vm1@$n" | grep -q "^Point $n of vm1 was not pinned\.$" || fail "unpin of what was not pinned: $(kagami unpin "vm1@$n")"
is "events of that" "$(kagami events vm1 --json | wc -l)" "$events"
kagami pin "vm1@$n" >/dev/null
kagami unpin "vm1@$n" | grep -q 'is not pinned any more' || fail "unpin of what was pinned"
kagami events vm1 | grep -q "the pin of point $n of vm1 was taken back" || fail "no event of a pin that was taken back"

# What reorders or hides what is beside it is not shown.
kagami pin "vm1@$n" $'safe\xe2\x80\xaegnp.exe' >/dev/null
kagami points "vm1@$n" | grep -q 'safe???gnp.exe' || fail "the text of a pin: $(kagami points "vm1@$n")"
kagami unpin "vm1@$n" >/dev/null

# With --json there is one document on standard output, also of what failed, whoever found it.
json_error() { # STATUS TEXT COMMAND...
	local wanted=$1 text=$2 status=0
	shift 2
	"$@" --json >"$W/out" 2>"$W/err" </dev/null || status=$?
	is "exit status of: $* --json" $status "$wanted"
	jq -es --arg text "$text" 'length == 1 and (.[0].error.message | test($text)) and (.[0].error | has("code"))' "$W/out" >/dev/null ||
		fail "$* --json prints: $(cat "$W/out")"
}
for command in 'status x' 'history x' 'events x' 'points x' 'syncs x' 'plan x --rpo 1m' 'test stop vm1' 'test stop vm1 nope' 'unpair nosuch --yes' \
	'failover vm1@999 --dry-run' 'points vm1@999' 'forget x --yes'; do
	# shellcheck disable=SC2086 # words
	json_error 1 . kagami $command
done
is "code of what a daemon refuses" "$(kagami points x --json 2>/dev/null | jq -r .error.code)" ENOENT
json_error 2 '^DIR is empty' kagami umount ''
is "code of misuse" "$(kagami umount '' --json 2>/dev/null | jq -r .error.code)" EINVAL
json_error 2 'is no option' kagami status --nosuch
json_error 2 'there is no command' kagami nosuch
json_error 3 'neither .* answers' kagami --run-dir "$R/none" status
json_error 1 'is there: name another file' kagami export vm1 "$W/a.raw"

# An option that would have no effect is refused.
fails_with 2 'plan: --points is for "plan retention NAME"' kagami plan vm1 --rpo 1m --points 4
fails_with 2 'plan: --keep is for "plan retention NAME"' kagami plan vm1 --rpo 1m --keep 1h:24
fails_with 2 'plan: --source is for' kagami plan vm1 --rpo 1m --source
kagami plan retention vm1 --source >/dev/null
fails_with 3 'status: --check prints a line for a monitor, and no JSON' kagami status --check --json

# A seed that fails at once is told at once, and one that failed by the list.
cp "$W/a.raw" "$R/a.raw" # of another file system than the store: it cannot share its blocks
fails_with 1 'the seed was not made: the file cannot share its blocks with the store' kagami seed vm9/vda "$R/a.raw" --format raw --reflink
kagami seed list >"$W/out"
grep -q '^There is no seed\.' "$W/out" || fail "seed list: $(cat "$W/out")"
grep -q '^! The newest one was not made: the file cannot share its blocks' "$W/out" || fail "seed list: $(cat "$W/out")"
kagami seed vm9/vda "$W/a.raw" --format raw --wait >/dev/null
kagami seed list | grep -q 'not made' && fail "seed list of one that was made: $(kagami seed list)"
kagami seed drop vm9/vda >/dev/null

# A monitor takes 3 for a plugin that is misused, whatever finds it.
fails_with 3 'critical: "99999999999999999999" is not a number from 1 to 100000' kagami status --check --critical 99999999999999999999
fails_with 3 'critical: "80%" is not a number' kagami status --check --critical 80%%
fails_with 3 'critical is empty' kagami status --check --critical ''
fails_with 3 'no option' kagami status --check --critcal 80
fails_with 2 'cycle: it takes no --check' kagami cycle vm1 --check

# What could not be written is no success; nor does it say that a store is damaged, or what a monitor takes for a state.
unwritten() { # STATUS COMMAND...
	local wanted=$1 status=0
	shift
	"$@" >/dev/full 2>"$W/err" || status=$?
	is "exit status of $* >/dev/full" $status "$wanted"
	grep -qE 'writing the output failed|write to standard output|could not be written' "$W/err" || fail "the error of $* >/dev/full: $(cat "$W/err")"
	status=0
	"$@" >&- 2>"$W/err" || status=$?
	is "exit status of $* >&-" $status "$wanted"
}
unwritten 1 kagami events
unwritten 1 kagami events --json
unwritten 1 timeout 10 kagami events --follow
unwritten 1 kagami pair-token
grep -q 'Good for' "$W/err" && fail "a token that was lost is good: $(cat "$W/err")"
unwritten 1 kagami status
unwritten 1 kagami --version
for daemon in kagami-replicator kagami-receiver; do
	unwritten 1 $daemon --version
	unwritten 1 $daemon --help
done
unwritten 3 kagami status --check
unwritten 3 kagami store check
unwritten 3 kagami store check --json

# A daemon that does not serve this user, where it can be reached by it.
chmod 755 "$W" "$R" "$KAGAMI_RUN_DIR"
chmod 666 "$KAGAMI_RUN_DIR"/*.sock
fails_with 3 'only root and the user that the daemon runs as are served' setpriv --reuid=65534 --regid=65534 --clear-groups kagami set
fails_with 3 'only root and the user that the daemon runs as are served' setpriv --reuid=65534 --regid=65534 --clear-groups kagami points vm1
chmod 600 "$KAGAMI_RUN_DIR"/*.sock

daemons_alive

# A replica that was failed over is bound by no RPO, and is not said to keep it.
wait_for 30 has_point vm2
stop_replicator
kagami failover vm2 --yes >/dev/null
kagami status --check vm2 | grep -q '^KAGAMI OK - 1 failed over |' || fail "check of one that was failed over: $(kagami status --check vm2)"
