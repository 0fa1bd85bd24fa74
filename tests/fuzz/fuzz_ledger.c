// SPDX-License-Identifier: Apache-2.0
// Any bytes as a ledger's file: sectors that are laid over a sound file, each with its check put right, so that what lies behind is reached. What is
// taken keeps the invariants of rpo/ledger.h, goes on, and is what a save and a load make of it again.
#include "base/bytes.h"
#include "base/crc32c.h"
#include "rpo/advice.h"
#include "rpo/ledger_file.h"
#include "tests/sim/env_sim.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define NS INT64_C(1000000000)
#define WALL (INT64_C(1790000000) * NS)
enum { PATCH = 2 + 500 };

static void must(bool holds)
{
	if (!holds)
		__builtin_trap();
}

static void check_slots(const struct ledger *l)
{
	for (unsigned i = 0; i < LEDGER_SLOTS; i++) {
		const struct ledger_slot *slot = &l->slot[i];
		uint64_t buckets = 0;
		if (slot->number == LEDGER_EMPTY)
			continue;
		for (unsigned b = 0; b < LEDGER_BUCKETS; b++)
			buckets += slot->bucket_ms[b];
		must(buckets == slot->observed_ms);
		must((int64_t)slot->observed_ms + slot->unobserved_ms <= ledger_slot_length_ms(i < LEDGER_FINE_SLOTS ? LEDGER_FINE : LEDGER_COARSE));
	}
}

static void use(struct ledger *l, uint8_t how)
{
	struct ledger_summary sum;
	struct advice advice;
	ledger_resume(l, 4, 7, WALL + (how & 1 ? 365 * 86400 * NS : 4000 * NS));
	check_slots(l);
	ledger_point(l, l->point + (how >> 1 & 1), how * 1000u, 1, 1);
	(void)ledger_tick(l, (uint64_t)(1 + how) * 1000 * NS, WALL - (how & 4 ? WALL : 0));
	check_slots(l);
	for (enum ledger_window window = 0; window < LEDGER_WINDOWS; window++) {
		ledger_sum(l, window, &sum);
		must(sum.p50_ms <= sum.p99_ms && sum.p99_ms <= sum.max_ms);
		must(sum.missed_ms <= sum.observed_ms);
	}
	(void)ledger_budget_left_ms(l);
	(void)advice_of(l, 0xff, &advice);
}

static void save_and_load(struct ledger_file *file, struct ledger *l)
{
	struct ledger *again = malloc(sizeof(*again));
	must(again && ledger_file_save(file, l, NULL) == 0);
	ledger_file_close(file);
	must(ledger_file_load(file, again, NULL) == 0);
	for (unsigned i = 0; i < LEDGER_SLOTS; i++)
		must(memcmp(&again->slot[i], &l->slot[i], sizeof(l->slot[i])) == 0);
	must(again->clock_ms == l->clock_ms && again->cut_ms == l->cut_ms && again->missing == l->missing);
	free(again);
}

// A sound file, then each patch of the input: the number of a sector, and up to 500 bytes for it.
static void file_make(struct env_root *root, struct ledger_file *file, struct ledger *l, const uint8_t *data, size_t len)
{
	unsigned char sector[LEDGER_SECTOR];
	ledger_init(l, 5000, LEDGER_OBJECTIVE_DEFAULT, 0, WALL);
	for (unsigned i = 0; i < 40; i++) {
		(void)ledger_tick(l, i * 7 * (uint64_t)NS, WALL + i * 7 * NS);
		ledger_point(l, i + 1, 1000 * (i % 9), 1, 1);
	}
	ledger_file_init(file, root, "f");
	must(ledger_file_save(file, l, NULL) == 0);
	for (size_t at = 0; at + 2 < len; at += PATCH) {
		unsigned number = get_le16(data + at) % LEDGER_SECTORS;
		size_t part = len - at - 2 < PATCH - 2 ? len - at - 2 : PATCH - 2;
		must(env_pread_full(file->file, sector, sizeof(sector), (uint64_t)number * LEDGER_SECTOR) == 0);
		memcpy(sector, data + at + 2, part < 496 ? part : 496);
		memcpy(sector + 496, file->instance, 8);
		put_le32(sector + 504, number);
		put_le32(sector + 508, crc32c(sector, 508));
		must(env_pwrite(file->file, sector, sizeof(sector), (uint64_t)number * LEDGER_SECTOR) == 0);
	}
	ledger_file_close(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len < 1)
		return 0;
	struct sim *sim = sim_new(1);
	struct env_root *root = NULL;
	struct ledger_file file;
	struct ledger *l = malloc(sizeof(*l));
	must(l && env_root_open(sim_env(sim), "/", &root) == 0);
	file_make(root, &file, l, data + 1, len - 1);
	if (ledger_file_load(&file, l, NULL) == 0) {
		check_slots(l);
		use(l, data[0]);
		save_and_load(&file, l);
	}
	ledger_file_close(&file);
	env_root_close(root);
	sim_free(sim);
	free(l);
	return 0;
}
