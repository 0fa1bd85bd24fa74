// SPDX-License-Identifier: Apache-2.0
#include "replicator/overtaken.h"

#include "base/log.h"
#include "link/events.h"

#include <stdio.h>
#include <string.h>

static void say(enum group_loss loss, int res, char text[OVERTAKEN_TEXT_SIZE])
{
	static const char *const why[] = {
		[LOSS_ROOM] = "guests overwrote more of it than is kept for them in memory and in the state directory: a quicker link or receiver, or more space there, helps",
		[LOSS_MEMORY] = "there was no memory to keep what guests overwrote",
		[LOSS_SPILL] = "what guests overwrote could not be kept in the state directory",
		[LOSS_SPILL_LATE] = "the state directory, where what guests overwrote is kept, does not answer: look at the disk under it",
		[LOSS_CONTENT] = "what guests were about to overwrite could not be read from the image",
	};
	(void)snprintf(text, OVERTAKEN_TEXT_SIZE, "%s%s%s", why[loss], res < 0 ? ": " : "", res < 0 ? strerror(-res) : "");
}

void overtaken_why(struct overtaken *overtaken, char text[OVERTAKEN_TEXT_SIZE])
{
	uint64_t newest = atomic_load(&overtaken->newest);
	say((enum group_loss)(newest >> 32), -(int)(uint32_t)newest, text);
}

void overtaken_note(struct overtaken *overtaken, const char *protection, enum group_loss loss, int res, uint64_t now_ns)
{
	char text[OVERTAKEN_TEXT_SIZE];
	say(loss, res, text);
	atomic_store(&overtaken->newest, (uint64_t)loss << 32 | (uint32_t)-res);
	atomic_fetch_add(&overtaken->count, 1);
	log_warning("a cut was given up, and the guest goes on: another cut is taken protection=%s: %s", protection, text);
	if (overtaken->event_ns && now_ns - overtaken->event_ns < OVERTAKEN_EVENT_NS)
		return;
	overtaken->event_ns = now_ns;
	event_emit(EVENT_WARNING, "state", protection, NULL, "a cut of %s was given up, and its guest goes on: %s", protection, text);
}
