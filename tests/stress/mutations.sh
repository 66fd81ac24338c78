#!/bin/sh
# Breaks the protocol of shm/ in one place at a time (SHM_MUTATE_... in shm/layout.h) and asks the stress tests: each mutant
# must be caught, and the code as it stands must pass. A test that passes under a mutation is no test.
#
#   tests/stress/mutations.sh            CC=gcc by default; about half a minute
#
# Output: 'ok NAME' or 'not ok NAME' a line; exit status 0 when all are ok.
# A missing release or acquire is no fault that x86 shows: ThreadSanitizer sees it as a data race on the payload.
set -u
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc=${CC:-gcc}
flags="-I. -D_GNU_SOURCE -std=gnu11 -g -fno-omit-frame-pointer"
sources="shm/*.c shm/common/memory.c shm/common/error.c shm/common/clock.c shm/common/passed_descriptor.c shm/common/text.c shm/common/utf8.c"
failed=0

# build PROGRAM thread|plain OUTPUT [MUTATION]
build() {
    case $2 in
    thread) how="-O1 -fsanitize=thread" ;;
    plain) how="-O2" ;;
    esac
    $cc $flags $how ${4:+-DSHM_MUTATE_$4} -o "$3" "tests/stress/$1.c" $sources -lpthread || {
        echo "not ok build of $1 ($2 ${4:-})"
        exit 1
    }
}

# run OUTPUT SECONDS: the status of the program; 124 when it hangs
run() {
    TSAN_OPTIONS="halt_on_error=1 exitcode=66" timeout -k 1 $(($2 + 25)) "$1" "$2" >"$work/out" 2>&1
}

good() { # NAME PROGRAM HOW SECONDS
    build "$2" "$3" "$work/good"
    run "$work/good" "$4" || { [ $? = 2 ] && run "$work/good" "$4"; }
    if [ $? = 0 ]; then
        echo "ok $1"
    else
        echo "not ok $1"
        tail -40 "$work/out"
        failed=1
    fi
}

# The mutant may take any of its tries to be caught, each longer than the one before: on a busy machine the two sides seldom meet; it must fail by itself (a race seen, a failed check), not hang
# (124, 137), and not because it could say nothing (2).
mutant() { # MUTATION PROGRAM HOW SECONDS
    build "$2" "$3" "$work/mutant" "$1"
    for factor in 1 1 2 4 8; do
        run "$work/mutant" $(($4 * factor))
        status=$?
        case $status in
        0 | 2 | 124 | 137) ;;
        *)
            why=$(grep -m1 -E 'FAILED|WARNING: ThreadSanitizer|opald:' "$work/out")
            echo "ok $1 is caught (${why:-status $status})"
            return
            ;;
        esac
    done
    echo "not ok $1 is not caught by $2 ($3)"
    failed=1
}

good "ring_threads under ThreadSanitizer" ring_threads thread 3
good "ring_threads" ring_threads plain 3
good "uplink_threads under ThreadSanitizer" uplink_threads thread 3
good "uplink_threads" uplink_threads plain 2
good "sleep_litmus" sleep_litmus plain 2
mutant TAIL_RELAXED ring_threads thread 3
mutant CELL_RELAXED ring_threads thread 3
mutant NO_SLOWEST ring_threads plain 3
mutant NO_SECOND_LOOK ring_threads plain 3
mutant UPLINK_RELAXED uplink_threads thread 3
mutant HEAD_RELAXED uplink_threads thread 3
mutant MASTER_NO_SECOND_LOOK uplink_threads plain 3
# On x86 a sequentially consistent load is a plain one: what can be broken there are the stores.
mutant TAIL_AGAINST_ASLEEP sleep_litmus plain 3
mutant UPLINK_AGAINST_SLEEP sleep_litmus plain 3
mutant SLEEP_AGAINST_UPLINK sleep_litmus plain 3
exit $failed
