#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# kagami watch in a real terminal: at 80x24 and 200x50, resized while it runs, scrolled, ended by q, by a signal and by ^\\; what it drew is gone then.
. "$(dirname "$0")/lib.sh"
requires tmux script

# More events of before than one answer has.
many_events "$STATE/events.jsonl"
start_pair
for i in 1 2 3; do
	new_image "$W/d$i.raw" $((8 << 20)) $i
	kagami protect vm$i vda="$W/d$i.raw" --to dr --rpo 60s >/dev/null
done
for i in 1 2 3; do
	wait_for 30 has_point vm$i
done

server=$W/tmux # a server of its own, that ends with the test
term() { tmux -S "$server" -f /dev/null "$@"; }
at_end "tmux -S $server kill-server"
screen() { term capture-pane -p -t watch; }
# shellcheck disable=SC2329 # by wait_for
shows() { screen | grep -qE -- "$1"; }
hidden() { ! shows "$1"; }

term new-session -d -s watch -x 80 -y 24 "echo before; LC_ALL=C.UTF-8 KAGAMI_RUN_DIR=$KAGAMI_RUN_DIR $build/bin/kagami watch; echo status \$?; sleep 1000"
wait_for 10 shows 'all 6 are well'
wait_for 10 shows '^ vm1 +idle .* of 1m'
hidden before || fail "what was on the screen is still there"
is "lines at 80x24" "$(screen | wc -l)" 24
at_most "widest line at 80x24" "$(screen | wc -L)" 80

kagami pause vm2 >/dev/null
wait_for 10 shows '! paused'
screen | sed -n 3,4p | grep -q vm2 || fail "what is not well does not come first: $(screen)"
term send-keys -t watch s
wait_for 10 shows 's worst first'
screen | sed -n 3p | grep -q vm1 || fail "not by name: $(screen)"

term resize-window -t watch -x 200 -y 50
wait_for 10 shows 'crash .* point .* dr'
is "lines at 200x50" "$(screen | wc -l)" 50
shows '^ vm3' || fail "a protection is missing: $(screen)"
term resize-window -t watch -x 50 -y 6
wait_for 10 shows 'up, down: 1 to'
term send-keys -t watch End
wait_for 10 shows '^ vm3'
hidden '^ vm1' || fail "it does not scroll: $(screen)"
term resize-window -t watch -x 80 -y 24
wait_for 10 shows '^ vm1'

stop_receiver
wait_for 15 shows 'kagami-receiver does not run any more'
start_receiver
wait_for 40 hidden 'does not run any more'
wait_for 40 shows '^ vm1 +connected'

# One that hangs is named, with where it was asked, and the other one's half goes on: its ages rise.
age_at_target() { screen | sed -nE 's/^ vm1 +connected .* ([0-9.]+m?s) of .*/\1/p'; }
kill -STOP "$REPLICATOR"
at_end "kill -CONT $REPLICATOR"
wait_for 20 shows '! kagami-replicator has not answered for [0-9.]+s at /'
hidden 'kagami-receiver has not' || fail "the other daemon is said to hang as well: $(screen)"
age=
# shellcheck disable=SC2329 # by wait_for
seen() { age=$(age_at_target) && [ -n "$age" ]; }
# shellcheck disable=SC2329
older() { screen | grep -qE '^ vm1 +connected' && [ "$(age_at_target)" != "$age" ]; }
wait_for 10 seen
wait_for 10 older
kill -CONT "$REPLICATOR"
wait_for 20 hidden 'has not answered for'

term send-keys -t watch q
wait_for 10 shows 'status 0'
shows before || fail "the screen of before did not come back: $(screen)"

term respawn-pane -k -t watch "echo before; KAGAMI_RUN_DIR=$KAGAMI_RUN_DIR LC_ALL=C $build/bin/kagami watch vm1; echo status \$?; sleep 1000"
wait_for 10 shows '#|-----'
hidden '^ vm2' || fail "one that was not asked for is shown"
wait_for 10 shows '^ [0-9:]{8}  .* vm1: '
hidden 'vm2: ' || fail "an event of one that was not asked for is shown: $(screen)"
watcher=$(pgrep -f "^$build/bin/kagami watch vm1$")
kill "$watcher"
wait_for 10 shows 'status 0'
shows before || fail "after a signal the screen of before did not come back: $(screen)"

# A key that ends a program gives the screen back too, and a name that nobody knows is refused.
term respawn-pane -k -t watch "echo before; KAGAMI_RUN_DIR=$KAGAMI_RUN_DIR LC_ALL=C $build/bin/kagami watch vm1; echo status \$?; sleep 1000"
wait_for 10 shows '#|-----'
term send-keys -t watch 'C-\'
wait_for 10 shows 'status 0'
shows before || fail "after ^\\ the screen of before did not come back: $(screen)"
term respawn-pane -k -t watch "KAGAMI_RUN_DIR=$KAGAMI_RUN_DIR LC_ALL=C $build/bin/kagami watch nosuch; echo status \$?; sleep 1000"
wait_for 10 shows 'status 1'
shows 'no protection is named "nosuch" here: "kagami status" lists them' || fail "watch of a name that nobody knows: $(screen)"

# The newest events are there from the first picture on, however many there are.
term respawn-pane -k -t watch "script -qefc 'LC_ALL=C KAGAMI_RUN_DIR=$KAGAMI_RUN_DIR $build/bin/kagami watch' $W/typed; echo ended; sleep 1000"
wait_for 20 shows '^ EVENTS'
term send-keys -t watch q
wait_for 10 shows ended
! grep -q 'event of before' "$W/typed" || fail "old events were shown first: $(grep -ao 'event of before [0-9]*' "$W/typed" | sort -u | head -n 3)"

# Without a terminal it says what is for that.
refuses 'needs a terminal.*kagami status' kagami watch
refuses 'not a name|name' kagami watch 'a/b'
