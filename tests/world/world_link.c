// SPDX-License-Identifier: Apache-2.0
// The network: connections in memory, under the channel that the program has over TLS otherwise.
//
// What is sent arrives later, whole and in order, in pieces of any size. A connection can be cut at any byte: what was sent before arrives, then
// both ends see a reset. It can stall: nothing arrives for a while. When a host loses its power the other end hears nothing, until the
// host is back and resets the connection, or for ever; when a program is killed its host resets at once.
#include "tests/world/world.h"

#include "base/bytes.h"
#include "link/channel_transport.h"

#include "replicator/priority.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW = 1 << 20, CHUNK_MAX = 256 << 10, KEEPALIVE_S = 32 }; // as channel.c asks of TCP: a silent host is given up after 30 s

struct segment {
	struct segment *next;
	uint64_t at_ns;
	size_t len, taken;
	unsigned char data[];
};

struct link;
struct end {
	struct channel_transport transport; // first
	struct link *link;
	struct host *host;
	unsigned life; // of the host, when it was made
	struct segment *first, **last; // on their way to this end
	size_t queued;
	bool finished; // sends no more
	bool closed;
	struct task *waiter;
	uint64_t in, out;
	unsigned char frame[WIRE_HEADER_SIZE + 2]; // what was sent of the one that is under way, up to the code of an ERROR
	uint64_t frame_at;
};

struct link {
	struct end end[2]; // 0: the source's
	bool cut;
	bool silent;	     // nothing arrives any more,
	uint64_t silent_ns;  // from then on
	uint64_t stalled_until_ns;
	uint64_t cut_after; // bytes, both ways
	uint64_t delay_ns;
	int number;
	char session[NAME_SIZE]; // the protection's name, once it is open
	struct link *next;
};

static struct link *links;
static int link_count;

static struct end *end_of(struct channel_transport *transport)
{
	return (struct end *)(void *)transport;
}

static struct end *other(const struct end *end)
{
	return &end->link->end[end == &end->link->end[0]];
}

static void link_wake(struct link *link)
{
	task_wake(link->end[0].waiter);
	task_wake(link->end[1].waiter);
}

static void link_silence(struct link *link)
{
	assert(link);
	if (!link->silent)
		link->silent_ns = the_world->now_ns;
	link->silent = true;
}

// When TCP ends the connection, since nobody answers.
static uint64_t dead_ns(const struct link *link)
{
	return link->silent ? link->silent_ns + KEEPALIVE_S * WORLD_S : UINT64_MAX;
}

static void link_cut(struct link *link)
{
	assert(link);
	link->cut = true;
	link_wake(link);
}

static bool end_gone(const struct end *end)
{
	return end->host->dead || end->host->life != end->life;
}

static uint64_t world_of(const struct end *end, int64_t deadline_ms)
{
	return deadline_ms < 0 ? 0 : end->host->boot_ns + (uint64_t)deadline_ms * WORLD_MS;
}

static void end_sleep(struct end *end, uint64_t until_ns)
{
	end->waiter = task_self();
	task_sleep(until_ns);
	end->waiter = NULL;
}

// ---- the transport

static int64_t end_now_ms(struct channel_transport *transport)
{
	return (int64_t)(env_mono_ns(sim_env(end_of(transport)->host->sim)) / WORLD_MS);
}

// No side ever has to say that the other one broke the protocol, whatever happens to them.
static void listen_to(struct end *from, const unsigned char *data, size_t len)
{
	while (len) {
		if (from->frame_at < WIRE_HEADER_SIZE) {
			from->frame[from->frame_at++] = *data++;
			len--;
			if (from->frame_at < WIRE_HEADER_SIZE || get_le32(from->frame))
				continue;
		}
		uint64_t body = get_le32(from->frame), at = from->frame_at - WIRE_HEADER_SIZE, part = min_u64(len, body - at);
		for (uint64_t i = at; i < 2 && i - at < part; i++)
			from->frame[WIRE_HEADER_SIZE + i] = data[i - at];
		if (get_le16(from->frame + 4) == WIRE_ERROR && at < 2 && at + part >= 2 && get_le16(from->frame + WIRE_HEADER_SIZE) == WIRE_E_PROTOCOL)
			world_wrong("%s says that the protocol was broken: %.*s", from->host->name, (int)min_u64(part > 4 - at ? part - (4 - at) : 0, 300),
				    (const char *)data + (4 - at)); // behind the code and the length of the text
		data += part;
		len -= part;
		from->frame_at = at + part == body ? 0 : from->frame_at + part;
	}
}

static void put_segment(struct end *from, const void *data, size_t len)
{
	struct end *to = other(from);
	struct segment *segment = malloc(sizeof(*segment) + len);
	assert(segment);
	*segment = (struct segment){.at_ns = the_world->now_ns + from->link->delay_ns + world_draw(from->link->delay_ns + 1), .len = len};
	memcpy(segment->data, data, len);
	listen_to(from, data, len);
	*to->last = segment;
	to->last = &segment->next;
	to->queued += len;
	from->out += len;
	task_wake(to->waiter);
}

static ssize_t end_send(struct channel_transport *transport, const void *data, size_t len, int64_t deadline_ms)
{
	struct end *end = end_of(transport), *to = other(end);
	struct link *link = end->link;
	uint64_t until_ns = world_of(end, deadline_ms);
	for (;;) {
		if (end_gone(end) || link->cut || end->finished || to->closed)
			return -ECONNRESET;
		if (link->cut_after == 0) // the byte is reached
			return -ECONNRESET;
		if (the_world->now_ns >= dead_ns(link))
			return -ETIMEDOUT;
		if (to->queued < WINDOW)
			break;
		if (the_world->now_ns >= until_ns)
			return -ETIMEDOUT;
		end_sleep(end, min_u64(until_ns, dead_ns(link)));
	}
	len = min_u64(len, CHUNK_MAX);
	if (link->cut_after != UINT64_MAX) {
		len = min_u64(len, link->cut_after);
		link->cut_after -= len;
	}
	if (!link->silent)
		put_segment(end, data, len);
	return (ssize_t)len;
}

// What has arrived; 0: nothing yet.
static size_t take_segment(struct end *end, unsigned char *data, size_t cap)
{
	struct segment *segment = end->first;
	assert(segment);
	size_t len = min_u64(segment->len - segment->taken, cap);
	memcpy(data, segment->data + segment->taken, len);
	segment->taken += len;
	end->queued -= len;
	end->in += len;
	if (segment->taken == segment->len) {
		end->first = segment->next;
		if (!end->first)
			end->last = &end->first;
		free(segment);
	}
	task_wake(other(end)->waiter);
	return len;
}

static ssize_t end_receive(struct channel_transport *transport, void *data, size_t cap, int64_t deadline_ms)
{
	struct end *end = end_of(transport);
	struct link *link = end->link;
	uint64_t until_ns = world_of(end, deadline_ms);
	for (;;) {
		uint64_t at_ns = UINT64_MAX;
		if (end_gone(end) || link->cut || end->finished)
			return -ECONNRESET;
		if (end->first)
			at_ns = max_u64(end->first->at_ns, link->stalled_until_ns);
		else if (!link->silent && (other(end)->closed || other(end)->finished || link->cut_after == 0))
			return -ECONNRESET;
		if (at_ns <= the_world->now_ns)
			return (ssize_t)take_segment(end, data, cap);
		if (the_world->now_ns >= dead_ns(link))
			end->finished = true; // a socket tells this error once, and is at its end then
		if (the_world->now_ns >= min_u64(until_ns, dead_ns(link)))
			return -ETIMEDOUT;
		end_sleep(end, min_u64(at_ns, min_u64(until_ns, dead_ns(link))));
	}
}

static void end_finish(struct channel_transport *transport)
{
	task_wake(other(end_of(transport))->waiter);
}

static void end_abort(struct channel_transport *transport)
{
	struct end *end = end_of(transport);
	end->finished = true;
	link_wake(end->link);
}

static int end_fd(struct channel_transport *transport)
{
	return end_of(transport)->link->number;
}

static uint64_t end_bytes_out(struct channel_transport *transport)
{
	return end_of(transport)->out;
}

static uint64_t end_bytes_in(struct channel_transport *transport)
{
	return end_of(transport)->in;
}

static uint64_t end_bytes_left(struct channel_transport *transport)
{
	return other(end_of(transport))->queued;
}

static void link_free(struct link *link)
{
	for (unsigned e = 0; e < 2; e++)
		for (struct segment *s = link->end[e].first, *next; s; s = next) {
			next = s->next;
			free(s);
		}
	free(link);
}

static void end_close(struct channel_transport *transport, bool sound)
{
	struct end *end = end_of(transport);
	struct link *link = end->link;
	(void)sound;
	end->closed = true;
	task_wake(other(end)->waiter);
	if (!other(end)->closed)
		return;
	for (struct link **at = &links; *at; at = &(*at)->next)
		if (*at == link) {
			*at = link->next;
			break;
		}
	link_free(link);
}

static const struct channel_transport_ops end_ops = {
	.send = end_send,
	.receive = end_receive,
	.now_ms = end_now_ms,
	.finish = end_finish,
	.abort = end_abort,
	.fd = end_fd,
	.bytes_out = end_bytes_out,
	.bytes_in = end_bytes_in,
	.bytes_left = end_bytes_left,
	.close = end_close,
};

// ---- connections

static void end_init(struct link *link, unsigned which, struct host *host)
{
	struct end *end = &link->end[which];
	*end = (struct end){.transport = {.ops = &end_ops}, .link = link, .host = host, .life = host->life};
	end->last = &end->first;
}

static void serve(void *context)
{
	struct link *link = context;
	struct channel *channel = NULL;
	if (channel_over(&link->end[1].transport, identity_pin(the_world->source_identity), &channel, NULL) == 0)
		receiver_session(channel);
}

int channel_connect(SSL_CTX *context, const char *address, const struct pin *expected, struct channel **ret_channel, struct err *err)
{
	struct world *w = the_world;
	(void)context;
	unsigned life = w->source.life;
	task_sleep(w->now_ns + (1 + world_draw(20)) * WORLD_MS);
	if (w->source.dead || w->source.life != life)
		return err_sys(err, -ENETDOWN, "%s", address);
	if (w->now_ns < w->net_down_until_ns || (!w->receiver.up && w->receiver.dead && !w->receiver.killed)) {
		task_sleep(w->now_ns + CHANNEL_HANDSHAKE_MS * WORLD_MS);
		return err_set(err, -ETIMEDOUT, "%s: no answer in time", address);
	}
	if (!w->receiver.up || w->receiver.dead)
		return err_sys(err, -ECONNREFUSED, "%s", address);
	struct link *link = calloc(1, sizeof(*link));
	assert(link);
	end_init(link, 0, &w->source);
	end_init(link, 1, &w->receiver);
	link->number = ++link_count;
	link->cut_after = UINT64_MAX;
	link->delay_ns = (1 + world_draw(w->quiet ? 5 : 30)) * WORLD_MS / 2;
	link->next = links;
	links = link;
	(void)task_start(&w->receiver, serve, link);
	return channel_over(&link->end[0].transport, expected, ret_channel, err);
}

// ---- what happens to them

void link_host_died(struct host *host)
{
	for (struct link *link = links; link; link = link->next) {
		bool of_host = link->end[0].host == host || link->end[1].host == host;
		if (of_host && host->killed)
			link_cut(link);
		else if (of_host)
			link_silence(link);
	}
}

// A host that is back resets what it does not know. Some of it is never heard of again.
void link_host_booted(struct host *host)
{
	for (struct link *link = links; link; link = link->next)
		for (unsigned e = 0; e < 2; e++)
			if (link->end[e].host == host && link->end[e].life != host->life && world_one_in(2))
				link_cut(link);
}

static void end_stop(struct end *end)
{
	end->finished = true;
	link_wake(end->link);
}

// A session of the receiver is open on the link whose task runs.
void link_session_of(const char *name)
{
	struct link *link = task_self()->context;
	(void)snprintf(link->session, sizeof(link->session), "%s", name);
}

void link_take_over(const char *name)
{
	for (struct link *link = links; link; link = link->next)
		if (strcmp(link->session, name) == 0)
			end_stop(&link->end[1]);
}

void link_host_stops(struct host *host)
{
	for (struct link *link = links; link; link = link->next)
		for (unsigned e = 0; e < 2; e++)
			if (link->end[e].host == host && !link->end[e].closed)
				end_stop(&link->end[e]);
}

void link_fault(void)
{
	struct world *w = the_world;
	unsigned count = 0;
	for (struct link *link = links; link; link = link->next)
		count++;
	if (!count)
		return;
	struct link *link = links;
	for (uint64_t n = world_draw(count); n && link->next; n--)
		link = link->next;
	assert(link);
	switch (world_draw(5)) {
	case 0:
		link_cut(link);
		world_happened(FAULT_CUT);
		return;
	case 1:
	case 2:
		link->cut_after = world_draw(world_one_in(2) ? 2000 : 300000);
		world_happened(FAULT_CUT_AT_BYTE);
		return;
	case 3:
		link->stalled_until_ns = w->now_ns + world_draw(50) * WORLD_S;
		world_happened(FAULT_STALL);
		return;
	default:
		link_silence(link);
		link_wake(link); // who waits sleeps until the end of it at most
		world_happened(FAULT_SILENT);
	}
}

void link_quiet(void)
{
	for (struct link *link = links; link; link = link->next) {
		link->stalled_until_ns = 0;
		link_wake(link);
	}
}

void link_end_all(void)
{
	while (links) {
		struct link *link = links;
		links = link->next;
		link_free(link);
	}
	link_count = 0; // a seed is one world, whatever was before it
}

// ---- how the cycle thread sleeps: replicator/protection_wait.c

int protection_wait_init(struct protection *p)
{
	(void)p;
	return 0;
}

void protection_wait_done(struct protection *p)
{
	(void)p;
}

static struct side *side_of(const struct protection *p)
{
	for (unsigned s = 0; s < the_world->sides; s++)
		if (strcmp(the_world->side[s].config.name, p->config.name) == 0)
			return &the_world->side[s];
	abort();
}

void protection_wake(struct protection *p)
{
	struct side *side = side_of(p);
	side->woken = true;
	task_wake(side->sleeper);
}

// The connection has something for the source's end, or is over. Until when there can be nothing new, otherwise.
static bool heard(const struct protection *p, uint64_t *until_ns)
{
	const struct link *link = links;
	while (link && link->number != channel_fd(p->channel))
		link = link->next;
	if (!link)
		return true;
	const struct end *end = &link->end[0];
	if (end_gone(end) || link->cut || end->finished)
		return true;
	if (!end->first)
		return !link->silent && (link->end[1].closed || link->cut_after == 0);
	uint64_t at_ns = max_u64(end->first->at_ns, link->stalled_until_ns);
	*until_ns = min_u64(*until_ns, at_ns);
	return at_ns <= the_world->now_ns;
}

static void listen_with(const struct protection *p, struct task *task)
{
	for (struct link *link = links; p->channel && link; link = link->next)
		if (link->number == channel_fd(p->channel))
			link->end[0].waiter = task;
}

void protection_wait(struct protection *p, uint64_t deadline_ns)
{
	struct side *side = side_of(p);
	if (!the_world->source.dead)
		host_clock(&the_world->source); // else it looks again at the same moment, for ever (seed 3211)
	uint64_t until_ns = deadline_ns > UINT64_MAX / 2 ? UINT64_MAX : the_world->source.boot_ns + deadline_ns;
	if (!side->woken && !the_world->source.dead && until_ns > the_world->now_ns && !(p->channel && heard(p, &until_ns))) {
		side->sleeper = task_self();
		listen_with(p, side->sleeper);
		task_sleep(until_ns);
		listen_with(p, NULL);
	}
	side->sleeper = task_self();
	while (the_world->source.dead && !p->stop) // dead: nothing moves any more until it is asked to end
		task_sleep(UINT64_MAX);
	side->sleeper = NULL;
	side->woken = false;
}

void protection_rest(void *context, uint64_t ns)
{
	(void)context;
	the_world->did.yielded++;
	if (!the_world->source.dead)
		task_sleep(the_world->now_ns + ns);
}

static void run_thread(void *context)
{
	struct protection *p = context;
	struct side *side = side_of(p);
	(void)protection_thread(p);
	task_wake(side->joiner);
}

int protection_thread_start(struct protection *p)
{
	side_of(p)->cycle_task = task_start(&the_world->source, run_thread, p);
	return 0;
}

void protection_thread_join(struct protection *p)
{
	struct side *side = side_of(p);
	side->joiner = task_self();
	while (!task_ended(side->cycle_task))
		task_sleep(the_world->now_ns + WORLD_S);
	side->joiner = NULL;
}

// The thread of doubt.c. Nobody waits for it: the loop thread, the marker and it are one thread here.

void doubt_init(struct protection *p)
{
	(void)pthread_mutex_init(&p->doubt.lock, NULL);
}

void doubt_done(struct protection *p)
{
	(void)pthread_mutex_destroy(&p->doubt.lock);
}

static void run_doubt(void *context)
{
	(void)doubt_thread(context);
}

int doubt_thread_start(struct protection *p)
{
	side_of(p)->doubt_task = task_start(&the_world->source, run_doubt, p);
	return 0;
}

void doubt_thread_join(struct protection *p)
{
	while (!task_ended(side_of(p)->doubt_task))
		task_sleep(the_world->now_ns + 10 * WORLD_MS);
}

void doubt_sleep(struct protection *p, uint64_t until_ns)
{
	struct side *side = side_of(p);
	uint64_t at_ns = until_ns > UINT64_MAX / 2 ? UINT64_MAX : the_world->source.boot_ns + until_ns;
	side->doubter = task_self();
	if (!p->doubt.woken)
		task_sleep(at_ns);
	while (the_world->source.dead && !p->doubt.stop)
		task_sleep(UINT64_MAX);
	side->doubter = NULL;
	p->doubt.woken = false;
}

void doubt_wake(struct protection *p)
{
	p->doubt.woken = true;
	side_of(p)->lost_track |= p->doubt.lost != 0;
	task_wake(side_of(p)->doubter);
}

bool doubt_pause(struct protection *p, uint64_t until_ns)
{
	(void)p, (void)until_ns;
	return false;
}

void priority_copy(bool spare) // of the whole process, here
{
	(void)spare;
}

void priority_hurry(bool on)
{
	(void)on;
}

uint64_t priority_waited_ns(void)
{
	return 0;
}
