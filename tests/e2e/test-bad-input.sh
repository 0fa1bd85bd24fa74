#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Bad input gets one line that says what is wrong and what to do, and a non-zero exit; nothing is lost, nothing ends.
# Also with sanitizers, in each run of them.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/good.raw" $((8 << 20))
new_image "$W/other.raw" $((4 << 20)) 2
start_receiver

# What the daemons are started with.
echo not a directory >"$W/file"
refuses 'not a directory' kagami-receiver --run-dir "$R/other" --store "$W/file" --listen "127.0.0.1:$(free_port)"
refuses 'there is no store directory' kagami-receiver --run-dir "$R/other" --store "$W/missing" --listen "127.0.0.1:$(free_port)"
mkdir "$W/store2"
refuses "in use" kagami-receiver --run-dir "$R/other" --store "$W/store2" --listen "127.0.0.1:$PORT"
refuses 'in use|another|lock' kagami-receiver --run-dir "$R/other" --store "$STORE" --listen "127.0.0.1:$(free_port)"
refuses 'in use|another|already|run' kagami-receiver --run-dir "$KAGAMI_RUN_DIR" --store "$W/store2" --listen "127.0.0.1:$(free_port)"
refuses 'address|port|listen' kagami-receiver --run-dir "$R/other" --store "$W/store2" --listen nowhere
refuses 'this host has no such address' kagami-receiver --run-dir "$R/other" --store "$W/store2" --listen 192.0.2.1:17654
refuses 'option|argument|store' kagami-receiver --run-dir "$R/other"
refuses 'not a directory' kagami-replicator --run-dir "$R/other" --state "$W/file"
refuses 'option' kagami-replicator --state "$W/store2" --no-such-option
KAGAMI_RUN_DIR=$R/nowhere refuses 'kagami-replicator|not running|connect' kagami status vm1

start_replicator
refuses 'in use|another|already|run' kagami-replicator --run-dir "$R/other" --state "$STATE"

kagami scrub --all | grep -q "nothing to scrub: the store has no protection" || fail "scrub --all of an empty store: $(kagami scrub --all)"

# Pairing.
refuses 'token' kagami pair dr not-a-token
token=$(new_token)
refuses 'token' kagami pair dr "$(echo "$token" | tr '0-9a-z' '1-9a-z0')"
refuses 'name' kagami pair ../dr "$token"
kagami pair dr "$token" >/dev/null
refuses 'token|used|exists|already' kagami pair dr2 "$token"
kagami pair dr "$(new_token)" >/dev/null # again, with the same receiver: nothing changes

# Protecting.
refuses 'no such file|does not exist|missing' kagami protect vm1 vda="$W/missing.raw" --to dr --rpo 15s
refuses 'site|pair' kagami protect vm1 vda="$W/good.raw" --to nowhere --rpo 15s
refuses 'name' kagami protect ../vm1 vda="$W/good.raw" --to dr --rpo 15s
refuses 'name' kagami protect VM1 vda="$W/good.raw" --to dr --rpo 15s
refuses 'name' kagami protect vm1 v/da="$W/good.raw" --to dr --rpo 15s
refuses 'name' kagami protect "$(printf 'a%.0s' {1..64})" vda="$W/good.raw" --to dr --rpo 15s
refuses 'a disk is missing.*DISK=PATH' kagami protect vm1 --to dr --rpo 15s
# What is missing is named, and an amount is not taken for a disk.
refuses 'mount: NAME\[@POINT\] is missing' kagami mount
refuses 'mount: DIR is missing' kagami mount vm1
refuses 'something is missing behind "vm1"' kagami files vm1
refuses 'it needs to be told what' kagami test
refuses "\"0\" is not a number from 1 on" kagami points vm1@0
refuses 'quota: 0 is nothing at all' kagami limit vm1 --quota 0
refuses 'rate: 3 a second is too little' kagami scrub vm1 --rate 3
refuses 'are for a failover' kagami failover vm1 --rollback --verify --yes
misused() { # TEXT COMMAND...: whoever finds it, the command line or the daemon
	local status=0
	refuses "$@"
	shift
	"$@" >/dev/null 2>&1 </dev/null || status=$?
	is "exit status of $*" $status 2
}
misused 'protect: --to is given twice' kagami protect vm1 vda="$W/good.raw" --to dr --to dr --rpo 15s
misused 'retention: --keep is given twice: its tiers stand behind one' kagami retention vm1 --keep 15m:24 --keep 1h:24
grep -q '^usage: kagami retention NAME' "$W/err" || fail "the usage is not the command's: $(cat "$W/err")"
misused 'retention: --kept is no option' kagami retention vm1 --kept 1
misused 'limit: --quota needs a value' kagami limit vm1 --quota
refuses '--to is given twice' kagami protect vm1 vda="$W/good.raw" --to dr --to dr --rpo 15s
refuses 'lock is a name the store needs itself' kagami protect lock vda="$W/good.raw" --to dr --rpo 15s
at_source POST /v1/protections "{\"name\": \"lock\", \"site\": \"dr\", \"rpo_ms\": 15000,
	\"disks\": [{\"name\": \"vda\", \"path\": \"$W/good.raw\"}]}" >"$W/out" 2>/dev/null || true
is "message for the name lock" "$(jq -r .error.message "$W/out")" \
	'lock is a name the store needs itself: protect under another name'
refuses 'rpo' kagami protect vm1 vda="$W/good.raw" --to dr --rpo soon
refuses 'rpo' kagami protect vm1 vda="$W/good.raw" --to dr --rpo 0s
for n in 0 201; do
	refuses 'not a number from 1 to 200' kagami protect vm1 vda="$W/good.raw" --to dr --rpo 15s --points $n
done
refuses 'twice|same|already|two' kagami protect vm1 vda="$W/good.raw" vda="$W/other.raw" --to dr --rpo 15s
refuses 'the disks vda and vdb are one image, .*good.raw' kagami protect vm1 vda="$W/good.raw" vdb="$W/good.raw" --to dr --rpo 15s
ln "$W/good.raw" "$W/link.raw"
refuses 'the disks vda and vdb are one image, .*link.raw' kagami protect vm1 vda="$W/good.raw" vdb="$W/link.raw" --to dr --rpo 15s
rm "$W/link.raw"
qemu-img create -q -f qcow2 "$W/disk.qcow2" 8M
truncate -s %512 "$W/disk.qcow2"
refuses 'is a qcow2 image.*qemu-img convert -f qcow2 -O raw' kagami protect vm1 vda="$W/disk.qcow2" --to dr --rpo 15s
kagami protect raw vda="$W/disk.qcow2" --to dr --rpo 1h --force >/dev/null || fail "--force does not say that it is raw"
kagami unprotect raw --yes >/dev/null
for made in qcow qed vdi vmdk vhdx parallels vpc vpc:subformat=fixed vmdk:subformat=monolithicFlat; do
	format=${made%%:*} options=${made#"$format"}
	rm -f "$W"/other.img*
	qemu-img create -q -f "$format" ${options:+-o "${options#:}"} "$W/other.img" 8M >/dev/null
	refuses "is a .*$format.* image.*qemu-img convert -f $format -O raw" kagami protect vm1 vda="$W/other.img" --to dr --rpo 15s
	qemu-img convert -f "$format" -O raw "$W/other.img" "$W/converted.raw" || fail "what is said of $made does not work"
done
refuses 'there is no protection nosuch' kagami test list nosuch
[ "$(kagami test list nosuch 2>/dev/null; echo $?)" = 1 ] || fail "test list of no protection: status"
truncate -s 1000 "$W/odd.raw"
refuses '512' kagami protect vm1 vda="$W/odd.raw" --to dr --rpo 15s
: >"$W/empty.raw"
refuses 'empty|size|512' kagami protect vm1 vda="$W/empty.raw" --to dr --rpo 15s
refuses 'directory|regular|block device' kagami protect vm1 vda="$W" --to dr --rpo 15s
if [ "$(id -u)" != 0 ]; then # root may write whatever the mode says
	cp "$W/other.raw" "$W/ro.raw"
	chmod 400 "$W/ro.raw"
	refuses 'read-only|permission|writ' kagami protect vm1 vda="$W/ro.raw" --to dr --rpo 15s
fi
is "protections after all that was refused" "$(at_source GET /v1/protections | jq -c .protections)" '[]'

kagami protect vm1 vda="$W/good.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
refuses 'exists|already' kagami protect vm1 vda="$W/other.raw" --to dr --rpo 15s
# What only the daemon can tell to be nonsense is misuse as well; what it cannot do is refused.
for wrong in 0m:4 15x:3 1m 1m:0 1m:4x; do
	misused 'keep: ' kagami retention vm1 --keep $wrong
done
misused '--points: "0" is not a number' kagami retention vm1 --points 0
misused 'is no limit of bandwidth|is no rate' kagami set vm1 --bandwidth "20 miles"
misused 'is no window' kagami set vm1 --offpeak never
misused 'low, normal, high|priority' kagami set vm1 --priority urgent
status=0
kagami pin vm1@999 >/dev/null 2>&1 || status=$?
is "exit status of what is refused" $status 1
kagami limit vm1 --quota 1k >"$W/out" || fail "a quota of 1k: $(cat "$W/out")"
grep -q 'may take 1 KiB' "$W/out" || fail "limit says: $(cat "$W/out")"
kagami limit vm1 --quota none >/dev/null

# A pin that is set anew says what it replaces.
n=$(newest_point vm1)
kagami pin "vm1@$n" "before the upgrade" >"$W/out"
is "lines of a new pin" "$(wc -l <"$W/out")" 1
kagami pin "vm1@$n" "before the upgrade" | grep -q 'pinned already, with the same text' || fail "the same pin again"
kagami pin "vm1@$n" "after it" >"$W/out"
grep -q 'Its text was "before the upgrade"; now it is "after it"' "$W/out" || fail "pin says: $(cat "$W/out")"
is "what was replaced" "$(kagami pin "vm1@$n" --json | jq -r .replaced)" "after it"
kagami pin "vm1@$n" | grep -q 'pinned already\.' || fail "a pin without text"
kagami unpin "vm1@$n" >/dev/null
kagami retention vm1 --points 1 --floor none | grep -qE '^keeps +1 point of vm1$' || fail "one point: $(kagami retention vm1)"
kagami retention vm1 --source >/dev/null
refuses 'in use|already|protected' kagami protect vm2 vda="$W/good.raw" --to dr --rpo 15s

# Protections, points and directories that are not there.
for command in 'status nobody' 'cycle nobody --wait' 'pause nobody' 'resume nobody' 'unprotect nobody' 'points nobody' \
	'failover nobody'; do
	# shellcheck disable=SC2086 # words
	refuses 'nobody' kagami $command
done
mkdir "$W/dir"
refuses 'nobody' kagami mount nobody "$W/dir"
refuses 'point|999' kagami failover vm1@999
refuses 'point' kagami failover vm1@-1
refuses 'point' kagami failover vm1@x
refuses 'point|999' kagami mount vm1@999 "$W/dir"
refuses 'mount' kagami umount "$W/dir"
refuses '' kagami no-such-command
refuses '' kagami

# The receiver's port: whoever is not paired, and whatever is not TLS, gets nothing and disturbs nobody.
printf 'GET / HTTP/1.0\r\n\r\n' | timeout 5 bash -c "exec 3<>/dev/tcp/127.0.0.1/$PORT; cat >&3; cat <&3" | head -c 100 >/dev/null || true
head -c 100000 /dev/urandom | timeout 5 bash -c "exec 3<>/dev/tcp/127.0.0.1/$PORT; cat >&3" 2>/dev/null || true
timeout 5 openssl s_client -connect "127.0.0.1:$PORT" -tls1_2 </dev/null >/dev/null 2>&1 || true # another protocol, and a version that is too old
failed_handshakes() { [ "$(grep -cE 'info: handshake failed peer=127\.0\.0\.1:[0-9]+: the other side does not speak kagami/1 over TLS 1\.3' "$W/kagami-receiver.log")" = 3 ]; }
wait_for 20 failed_handshakes # a line for each, with who it was and why

# A replicator with other keys has the right names, but not the right to use them.
KEPT=$KAGAMI_RUN_DIR STATE=$W/state2 KAGAMI_RUN_DIR=$R/run2
mkdir "$STATE"
mv "$W/kagami-replicator.log" "$W/first.log"
first=$REPLICATOR
start_replicator
echo "$(KAGAMI_RUN_DIR=$KEPT new_token)" >"$W/token2"
kagami pair dr "$(cat "$W/token2")" >/dev/null
kagami protect vm1 vda="$W/other.raw" --to dr --rpo 1s >"$W/out" 2>&1 || true
sleep 1
if [ "$(at_source GET /v1/protections | jq '.protections | length')" = 1 ]; then
	[ "$(protection vm1 .reason)" != '' ] || fail "another source under the same name gets no reason"
fi
kill_replicator
KAGAMI_RUN_DIR=$KEPT STATE=$W/state REPLICATOR=$first

# What forget removes is said before it is asked for; without a yes nothing goes.
if command -v script >/dev/null; then
	echo n | script -qec 'kagami forget vm1' /dev/null >"$W/out" || true
	grep -qE 'ALL of its recovery points \([0-9]+, with [0-9.]+ [KMGi]*B in all\)' "$W/out" || fail "forget asks: $(cat "$W/out")"
	has_point vm1 || fail "forget did not wait for a yes"
fi

nbd_io vm1 vda 'write -P 0x77 1M 64k'
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/good.raw"
daemons_alive
is "owner's protection after the other one tried" "$(protection vm1 .reason)" ''
stop_replicator
stop_receiver
