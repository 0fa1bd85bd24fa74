// SPDX-License-Identifier: Apache-2.0
// Shares of a limit on a host whose processors are taken: each flow is a thread that asks, sleeps, is woken, and then waits for a processor; how long, is
// drawn. What it may send it sends as long as it has the processor.
#include "base/size.h"
#include "rpo/shaper.h"
#include "tests/lib/twin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)
#define MS (SECOND / 1000)
#define US (MS / 1000)

enum { FLOWS = 3, PIECES_MAX = 1 << 18 };

struct worker {
	bool wants;		  // to send, without an end
	bool sleeps;		  // until `at_ns`, or until another has sent; else it runs at that moment
	unsigned late, of;	  // in `late` of `of` times it is woken it waits for a processor
	uint64_t late_ns[2];	  // from, to
	uint64_t at_ns, sent;
};

struct host {
	struct shaper shaper;
	struct shaper_flow flow[FLOWS];
	struct worker worker[FLOWS];
	uint64_t now_ns, seed, piece;
	uint64_t took_ns; // to send a piece
	struct {
		uint64_t at_ns, sum;
	} *past; // each piece, for S4
	size_t pieces, first; // of the last ten seconds
	uint64_t sum;
};

static void host_begin(struct host *host, uint64_t rate, const unsigned weights[FLOWS], uint64_t seed)
{
	memset(host, 0, sizeof(*host));
	host->now_ns = SECOND;
	host->seed = seed;
	host->piece = bucket_piece(rate);
	host->took_ns = 50 * US;
	host->past = calloc(PIECES_MAX, sizeof(*host->past));
	assert_non_null(host->past);
	bucket_set(&host->shaper.total, rate, host->now_ns);
	for (int i = 0; i < FLOWS; i++) {
		shaper_join(&host->shaper, &host->flow[i], weights[i]);
		host->worker[i] = (struct worker){.wants = true, .of = 1, .at_ns = host->now_ns};
	}
}

static void host_end(struct host *host)
{
	free(host->past);
}

static uint64_t runs_in(struct host *host, const struct worker *worker)
{
	if (draw_below(&host->seed, worker->of) >= worker->late)
		return 20 * US;
	return worker->late_ns[0] + draw_below(&host->seed, worker->late_ns[1] - worker->late_ns[0]);
}

static void note(struct host *host, uint64_t rate)
{
	assert_true(host->pieces < PIECES_MAX);
	host->past[host->pieces].at_ns = host->now_ns;
	host->past[host->pieces++].sum = host->sum;
	host->sum += host->piece;
	for (; host->now_ns - host->past[host->first].at_ns > 10 * SECOND; host->first++)
		;
	double seconds = (double)(host->now_ns - host->past[host->first].at_ns) / (double)SECOND;
	assert_true((double)(host->sum - host->past[host->first].sum) <= seconds * (double)rate + (double)bucket_depth(rate) + (double)host->piece);
}

static void sent(struct host *host, unsigned f)
{
	host->worker[f].sent += host->piece;
	note(host, host->shaper.total.rate);
	host->worker[f].at_ns = host->now_ns + host->took_ns;
	for (unsigned i = 0; i < FLOWS; i++)
		if (i != f && host->worker[i].sleeps) {
			host->worker[i].sleeps = false;
			host->worker[i].at_ns = host->now_ns + runs_in(host, &host->worker[i]);
		}
}

// The thread whose moment is next.
static void turn(struct host *host, unsigned f)
{
	struct worker *worker = &host->worker[f];
	if (worker->sleeps) { // its time is over, and it is woken
		worker->sleeps = false;
		worker->at_ns = host->now_ns + runs_in(host, worker);
		return;
	}
	uint64_t wait_ns = shaper_ask(&host->shaper, &host->flow[f], host->piece, host->now_ns);
	if (wait_ns == 0) {
		sent(host, f);
		return;
	}
	worker->sleeps = true;
	worker->at_ns = host->now_ns + min_u64(wait_ns, 100 * MS);
}

static void run(struct host *host, uint64_t for_ns)
{
	for (uint64_t end = host->now_ns + for_ns;;) {
		int next = -1;
		for (int i = 0; i < FLOWS; i++)
			if (host->worker[i].wants && (next < 0 || host->worker[i].at_ns < host->worker[next].at_ns))
				next = i;
		if (next < 0 || host->worker[next].at_ns >= end) {
			host->now_ns = end;
			return;
		}
		host->now_ns = max_u64(host->now_ns, host->worker[next].at_ns);
		turn(host, (unsigned)next);
	}
}

// What each had of what it was to have, in thousandths; over `seconds`, of which there are no less than ten.
static void shares(struct host *host, const unsigned weights[FLOWS], uint64_t seconds, unsigned ret_share[FLOWS])
{
	uint64_t before[FLOWS], sum = 0;
	unsigned weight = 0;
	for (int i = 0; i < FLOWS; i++)
		before[i] = host->worker[i].sent;
	run(host, seconds * SECOND);
	for (int i = 0; i < FLOWS; i++) {
		sum += host->worker[i].sent - before[i];
		weight += host->worker[i].wants ? weights[i] : 0;
	}
	for (int i = 0; i < FLOWS; i++)
		ret_share[i] = (unsigned)((host->worker[i].sent - before[i]) * 1000 * weight / weights[i] / (sum ? sum : 1));
}

static const unsigned by_priority[FLOWS] = {1, 2, 4};


static void make_late(struct host *host, int which, unsigned of, uint64_t from_ms, uint64_t to_ms)
{
	for (int i = 0; i < FLOWS; i++)
		if (i == which || which == FLOWS)
			host->worker[i] = (struct worker){.wants = host->worker[i].wants, .late = 1, .of = of, .late_ns = {from_ms * MS, to_ms * MS}, .at_ns = host->now_ns};
}

static void assert_shares(const unsigned share[FLOWS], unsigned off)
{
	for (int i = 0; i < FLOWS; i++)
		if (share[i] < 1000 - off || share[i] > 1000 + off)
			fail_msg("shares %u %u %u of 1000, off by more than %u", share[0], share[1], share[2], off);
}

// One of them, or all (FLOWS), is woken 5 to 100 ms late: always, or once in four times. All have their shares within 3 %, and nothing of the limit is lost.
static void who_is_late_has_its_share_all_the_same(void **state)
{
	static const uint64_t rates[] = {1000000, 1400000, 12500000, 125000000};
	(void)state;
	for (unsigned run_of = 0; run_of < COUNT(rates) * (FLOWS + 1) * 2; run_of++) {
		uint64_t rate = rates[run_of % COUNT(rates)];
		struct host host;
		unsigned share[FLOWS];
		host_begin(&host, rate, by_priority, run_of);
		make_late(&host, (int)(run_of / COUNT(rates) % (FLOWS + 1)), run_of % 2 ? 1 : 4, 5, 100);
		run(&host, SECOND);
		uint64_t had = host.sum;
		shares(&host, by_priority, 20, share);
		assert_shares(share, 30);
		assert_true((double)(host.sum - had) >= 0.98 * 20 * (double)rate);
		host_end(&host);
	}
}

// The bucket of a low rate holds few pieces: what can be kept for one that is late is less than what it could have in that time.
static void who_is_late_now_and_then_has_its_share_of_a_low_rate(void **state)
{
	(void)state;
	for (int which = 0; which <= FLOWS; which++) {
		struct host host;
		unsigned share[FLOWS];
		host_begin(&host, 64000, by_priority, (uint64_t)which);
		make_late(&host, which, 4, 5, 100);
		shares(&host, by_priority, 60, share);
		assert_shares(share, 120);
		host_end(&host);
	}
}

// S1, S2: one that is later than the credit each time has what it can, and the others all of the rest.
static void who_is_later_than_the_credit_costs_the_others_nothing(void **state)
{
	(void)state;
	for (int which = 0; which < FLOWS; which++) {
		struct host host;
		unsigned share[FLOWS];
		host_begin(&host, 1400000, by_priority, (uint64_t)which);
		make_late(&host, which, 1, 400, 3000);
		uint64_t had = host.sum;
		shares(&host, by_priority, 60, share);
		assert_true((double)(host.sum - had) >= 0.98 * 60 * 1400000);
		host_end(&host);
	}
}

// S3: who went away for half a minute is never further ahead of its share, from when it is back, than its share of the credit (and what a meter's stretch and
// a piece add), and the others have theirs a second later.
static void who_went_away_gains_no_more_than_the_credit(void **state)
{
	static const uint64_t rates[] = {200000, 1400000, 12500000};
	(void)state;
	for (unsigned run_of = 0; run_of < COUNT(rates) * FLOWS; run_of++) {
		unsigned back = run_of / COUNT(rates), share[FLOWS], weight = by_priority[0] + by_priority[1] + by_priority[2];
		uint64_t rate = rates[run_of % COUNT(rates)];
		struct host host;
		host_begin(&host, rate, by_priority, run_of);
		run(&host, SECOND);
		host.worker[back].wants = false;
		run(&host, 30 * SECOND);
		uint64_t before = host.worker[back].sent, since_ns = host.now_ns;
		host.worker[back].wants = true;
		host.worker[back].sleeps = false;
		host.worker[back].at_ns = since_ns;
		double most_s = 0, part = (double)rate * by_priority[back] / weight;
		while (host.now_ns < since_ns + 3 * SECOND) {
			run(&host, MS);
			double ahead = (double)(host.worker[back].sent - before) / part - (double)(host.now_ns - since_ns) / (double)SECOND;
			most_s = ahead > most_s ? ahead : most_s;
		}
		assert_true(most_s <= 1.1 * SHAPER_CREDIT_MS / 1000 + (double)bucket_depth(rate) / (double)rate + (double)host.piece / part);
		shares(&host, by_priority, 20, share);
		assert_shares(share, 30);
		host_end(&host);
	}
}

// S2: one that is late and has a limit of its own leaves the rest to the others, by their weights.
static void who_is_late_with_a_limit_of_its_own_leaves_the_rest(void **state)
{
	struct host host;
	(void)state;
	host_begin(&host, 1400000, by_priority, 5);
	bucket_set(&host.flow[2].bucket, 300000, host.now_ns);
	make_late(&host, 2, 1, 5, 100);
	run(&host, 60 * SECOND);
	assert_true(host.worker[2].sent >= 60 * 150000 && host.worker[2].sent <= 60 * 303000);
	assert_true((double)host.sum >= 0.98 * 60 * 1400000);
	double part = (double)host.worker[1].sent / (double)host.worker[0].sent;
	assert_true(part > 1.94 && part < 2.06);
	host_end(&host);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_is_late_has_its_share_all_the_same),
		cmocka_unit_test(who_is_late_now_and_then_has_its_share_of_a_low_rate),
		cmocka_unit_test(who_is_later_than_the_credit_costs_the_others_nothing),
		cmocka_unit_test(who_went_away_gains_no_more_than_the_credit),
		cmocka_unit_test(who_is_late_with_a_limit_of_its_own_leaves_the_rest),
	};
	return cmocka_run_group_tests_name("shaper", tests, NULL, NULL);
}
