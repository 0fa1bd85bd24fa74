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

static void save_and_load(struct ledger *l)
{
	struct sim *sim = sim_new(1);
	struct env_root *root = NULL;
	struct ledger_file file;
	struct ledger *again = malloc(sizeof(*again));
	must(again && env_root_open(sim_env(sim), "/", &root) == 0);
	ledger_file_init(&file, root, "f");
	must(ledger_file_save(&file, l, NULL) == 0);
	ledger_file_close(&file);
	must(ledger_file_load(&file, again, NULL) == 0);
	for (unsigned i = 0; i < LEDGER_SLOTS; i++)
		must(memcmp(&again->slot[i], &l->slot[i], sizeof(l->slot[i])) == 0); // NOLINT(bugprone-suspicious-memory-comparison): padding too
	must(again->clock_ms == l->clock_ms && again->cut_ms == l->cut_ms && again->missing == l->missing);
	ledger_file_close(&file);
	env_root_close(root);
	sim_free(sim);
	free(again);
}

// A sound file, made once.
static const unsigned char *sound_file(struct ledger *l)
{
	static unsigned char data[LEDGER_FILE_SIZE];
	static bool made;
	if (made)
		return data;
	struct sim *sim = sim_new(1);
	struct env_root *root = NULL;
	struct ledger_file file;
	must(env_root_open(sim_env(sim), "/", &root) == 0);
	ledger_init(l, 5000, LEDGER_OBJECTIVE_DEFAULT, 0, WALL);
	for (unsigned i = 0; i < 300; i++) {
		(void)ledger_tick(l, i * 7 * (uint64_t)NS, WALL + i * 7 * NS);
		ledger_point(l, i + 1, 1000 * (i % 9), 1, 1);
	}
	ledger_file_init(&file, root, "f");
	must(ledger_file_save(&file, l, NULL) == 0 && env_pread_full(file.file, data, sizeof(data), 0) == 0);
	ledger_file_close(&file);
	env_root_close(root);
	sim_free(sim);
	made = true;
	return data;
}

// Each patch of the input: the number of a sector, and up to 496 bytes for it; of the same file, with its check put right.
static void patch(unsigned char *file, const uint8_t *data, size_t len)
{
	unsigned char instance[8];
	memcpy(instance, file + LEDGER_SECTOR + 496, sizeof(instance));
	for (size_t at = 0; at + 2 < len; at += PATCH) {
		unsigned number = get_le16(data + at) % LEDGER_SECTORS;
		size_t part = len - at - 2 < PATCH - 2 ? len - at - 2 : PATCH - 2;
		unsigned char *sector = file + (size_t)number * LEDGER_SECTOR;
		memcpy(sector, data + at + 2, part < 496 ? part : 496);
		memcpy(sector + 496, instance, sizeof(instance));
		put_le32(sector + 504, number);
		put_le32(sector + 508, crc32c(sector, 508));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len < 1)
		return 0;
	struct ledger *l = malloc(sizeof(*l));
	unsigned char *file = malloc(LEDGER_FILE_SIZE);
	struct ledger_file of = {.sequence = 0};
	must(l && file);
	memcpy(file, sound_file(l), LEDGER_FILE_SIZE);
	patch(file, data + 1, len - 1);
	if (ledger_file_decode(&of, file, l) == 0) {
		check_slots(l);
		use(l, data[0]);
		if (data[0] % 16 == 0) // it takes a simulated disk
			save_and_load(l);
	}
	free(file);
	free(l);
	return 0;
}
