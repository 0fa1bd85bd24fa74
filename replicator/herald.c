// SPDX-License-Identifier: Apache-2.0
#include "replicator/herald.h"

#include "base/thread.h"

#include "replicator/holder.h"

#include <stdio.h>

static void on_message(struct ring_message *message)
{
	struct herald *herald = HOLDER(message, struct herald, message);
	herald->noted(herald);
}

static void *herald_run(void *context)
{
	struct herald *herald = context;
	herald->config.note(herald->config.context, herald->disk, herald->why);
	(void)ring_post(herald->ring, &herald->message); // after the loop's end nobody waits for it
	herald->config.lose(herald->config.context, herald->disk, herald->why);
	return NULL;
}

int herald_start(struct herald *herald, const struct export_marker *config, struct ring *ring, uint16_t disk, const char *why,
		 void (*noted)(struct herald *))
{
	*herald = (struct herald){
		.config = *config, .ring = ring, .disk = disk, .noted = noted, .message = {.run = on_message}};
	(void)snprintf(herald->why, sizeof(herald->why), "%s", why);
	int code = thread_start(&herald->thread, "kagami-herald", herald_run, herald);
	if (code)
		return code;
	herald->running = true;
	return 0;
}

void herald_stop(struct herald *herald)
{
	if (!herald->running)
		return;
	(void)pthread_join(herald->thread, NULL);
	herald->running = false;
}
