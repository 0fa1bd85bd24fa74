// SPDX-License-Identifier: Apache-2.0
#include "receiver/session.h"

#include "base/log.h"
#include "base/size.h"

#include <errno.h>

#define UNPAIRED "this source is not paired with the receiver: `kagami pair-token` on the target gives a token"

enum session_state { SESSION_START, SESSION_READY, SESSION_OPEN, SESSION_STATES };

enum {
	POLL_MS = 1000,		 // how often a session looks around, whether or not its source leaves a pause
	GREETING_MS = 15000,	 // from the handshake to PAIR or OPEN, whatever else is said
	SPEAK_MS = CHANNEL_PING_MS / 2, // a source that waits hears of us so often while there is work
	ZEROS_SPAN = 1 << 18,	 // blocks (16 GiB) that are made zeros before one looks up
};

struct session {
	const struct session_host *host;
	struct channel *channel;
	const char *peer_address;
	enum session_state state;
	uint32_t features;	 // that the source announced
	bool seeded;		 // the next OPEN makes no protection without seeds
	int64_t their_wall_ns;	 // of its HELLO
	struct replica *replica; // while OPEN
	struct replica *opening; // while OPEN is answered
	bool claimed;		 // it is this session's
	bool worked;		 // on a frame, since it was listened last
	uint64_t began_ns, heard_ns, spoke_ns, looked_ns;
	uint64_t messages; // BLOCK and ZEROS that were taken
	bool done; // answered in full, or nobody is there: close without ERROR
};

// Handlers return 0, or a negative errno after `err` was filled; *ret_code says what the peer is told.
typedef int session_handler(struct session *session, const struct wire_frame *frame, enum wire_error *ret_code,
			    struct err *err);

static int reply(struct session *session, size_t len, struct err *err)
{
	int rc = channel_put(session->channel, len);
	return rc ? err_sys(err, rc, "answer") : channel_flush(session->channel, err);
}

static uint64_t now_ns(const struct session *session)
{
	return env_mono_ns(session->host->env);
}

// Between one piece of work and the next, of OPEN too: what is to be said leaves, and a PONG at least, before the source takes us for dead.
static int speak(struct session *session, struct err *err)
{
	uint64_t now = now_ns(session);
	if ((session->state != SESSION_OPEN && !session->opening) || now - session->spoke_ns < SPEAK_MS * UINT64_C(1000000))
		return 0;
	session->spoke_ns = now;
	return reply(session, wire_put_empty(channel_room(session->channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, WIRE_PONG), err);
}

static int malformed(const struct wire_frame *frame, enum wire_error *ret_code, struct err *err)
{
	*ret_code = WIRE_E_PROTOCOL;
	return err_set(err, -EBADMSG, "%s is malformed", wire_type_name(frame->type));
}

static int on_hello(struct session *session, const struct wire_frame *frame, enum wire_error *ret_code, struct err *err)
{
	struct wire_hello theirs, own = {
					  .major = WIRE_MAJOR,
					  .minor = WIRE_MINOR,
					  .wall_ns = env_wall_ns(session->host->env),
					  .features = WIRE_FEATURE_DAMAGED | WIRE_FEATURE_ACK | WIRE_FEATURE_NODES | WIRE_FEATURE_BLAKE2B | WIRE_FEATURE_PIECES |
						      WIRE_FEATURE_SEEDED | WIRE_FEATURE_DOUBT | WIRE_FEATURE_REPORT | WIRE_FEATURE_GOODBYE |
						      WIRE_FEATURE_CLOCK,
					  .program = "kagami-receiver",
				  };
	if (wire_get_hello(frame, &theirs))
		return malformed(frame, ret_code, err);
	if (theirs.major != WIRE_MAJOR) {
		*ret_code = WIRE_E_VERSION;
		return err_set(err, -EPROTONOSUPPORT, "this receiver speaks version %d of the protocol, the source %u: upgrade one",
			       WIRE_MAJOR, theirs.major);
	}
	session->features = theirs.features;
	session->their_wall_ns = theirs.wall_ns;
	session->state = SESSION_READY;
	return reply(session, wire_put_hello(channel_room(session->channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, &own), err);
}

static int on_pair(struct session *session, const struct wire_frame *frame, enum wire_error *ret_code, struct err *err)
{
	struct wire_pair proof, answer;
	if (wire_get_pair(frame, &proof))
		return malformed(frame, ret_code, err);
	int rc = pairing_accept(session->host->pairing, &proof, channel_peer(session->channel), &answer, err);
	if (rc) {
		*ret_code = rc == -EACCES ? WIRE_E_TOKEN : WIRE_E_STORE;
		return rc;
	}
	session->done = true;
	return reply(session, wire_put_pair(channel_room(session->channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, WIRE_PAIRED, &answer),
		     err);
}

static enum wire_error open_refusal(int rc)
{
	switch (rc) {
	case -EPERM:
	case -EEXIST:
		return WIRE_E_EXISTS;
	case -ESTALE:
		return WIRE_E_FENCED;
	case -EINVAL:
		return WIRE_E_GEOMETRY;
	case -EBUSY:
	case -EAGAIN:
		return WIRE_E_BUSY;
	case -ENOSPC:
		return WIRE_E_NO_SPACE;
	case -EDQUOT:
		return WIRE_E_QUOTA;
	case -ENODATA:
		return WIRE_E_SEED;
	default:
		return WIRE_E_STORE;
	}
}

static int replica_for(struct session *session, const struct wire_open *open, struct replica **ret_replica, struct err *err)
{
	struct store *store = session->host->store;
	*ret_replica = store_find(store, open->name);
	if (*ret_replica)
		return 0;
	const unsigned char *pin = channel_peer(session->channel)->bytes;
	int rc = session->seeded ? store_seeded(store, open, pin, err) : 0;
	if (rc)
		return rc;
	rc = store_create(store, open, pin, ret_replica, err);
	if (rc == -EEXIST && (*ret_replica = store_find(store, open->name))) // another connection was quicker
		return 0;
	return rc;
}

// The replica is claimed, and its digests are loaded: from here on whoever comes for it finds this connection.
static int loading(void *context, struct err *err)
{
	struct session *session = context;
	if (!session->claimed)
		session->host->opened(session->host->context, session->opening);
	session->claimed = true;
	return speak(session, err);
}

static int begin(struct session *session, const struct wire_open *open, struct wire_opened *ret_opened, struct err *err)
{
	const struct session_host *host = session->host;
	const struct session_pace pace = {.look = loading, .context = session};
	const unsigned char *pin = channel_peer(session->channel)->bytes;
	struct replica *replica = NULL;
	int rc = replica_for(session, open, &replica, err);
	if (rc) // as many protections as it may have, or a quota of the file system's
		return rc == -EDQUOT ? -ENOSPC : rc;
	session->opening = replica;
	session->spoke_ns = session->heard_ns; // it waits since then
	rc = replica_session_begin_paced(replica, open, pin, &pace, ret_opened, err);
	if (rc == -EBUSY && !session->claimed && host->take_over(host->context, replica)) // the owner is back before its old connection was missed
		rc = replica_session_begin_paced(replica, open, pin, &pace, ret_opened, err);
	session->opening = NULL;
	if (rc)
		return rc;
	session->replica = replica;
	session->state = SESSION_OPEN;
	watch_connected(host->watch, replica, session->their_wall_ns, session->peer_address);
	return 0;
}

static int send_damaged(struct session *session, struct err *err)
{
	struct wire_damaged damaged;
	replica_damaged(session->replica, &damaged);
	return reply(session, wire_put_damaged(channel_room(session->channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, &damaged), err);
}

static int send_doubted(struct session *session, const struct wire_doubted *doubted, struct err *err)
{
	return reply(session, wire_put_doubted(channel_room(session->channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, doubted), err);
}

// What else the source must know before it believes what it remembers.
static int say_more(struct session *session, enum wire_error *ret_code, struct err *err)
{
	struct wire_doubted doubted;
	replica_doubted(session->replica, &doubted);
	if (doubted.disks && !(session->features & WIRE_FEATURE_DOUBT)) {
		*ret_code = WIRE_E_VERSION;
		return err_set(err, -EPROTONOSUPPORT,
			       "the source lost track of a disk, and this version of it would not know: start the newer one again");
	}
	int rc = session->features & WIRE_FEATURE_DAMAGED ? send_damaged(session, err) : 0;
	return rc || !(session->features & WIRE_FEATURE_DOUBT) ? rc : send_doubted(session, &doubted, err);
}

static int on_open(struct session *session, const struct wire_frame *frame, enum wire_error *ret_code, struct err *err)
{
	struct wire_open open;
	struct wire_opened opened;
	if (!pairing_known(session->host->pairing, channel_peer(session->channel))) {
		*ret_code = WIRE_E_UNPAIRED;
		return err_set(err, -EACCES, UNPAIRED);
	}
	if (wire_get_open(frame, &open))
		return malformed(frame, ret_code, err);
	int rc = begin(session, &open, &opened, err);
	if (rc) {
		*ret_code = open_refusal(rc);
		return rc;
	}
	log_info("session opened protection=%s peer=%s point=%llu", open.name, session->peer_address,
		 (unsigned long long)opened.last_point);
	rc = reply(session, wire_put_opened(channel_room(session->channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, &opened), err);
	return rc ? rc : say_more(session, ret_code, err);
}

// No session: another connection may have it, and be busy.
static int on_doubt(struct session *session, const struct wire_frame *frame, enum wire_error *ret_code, struct err *err)
{
	const struct pin *pin = channel_peer(session->channel);
	struct wire_doubt doubt;
	struct wire_doubted doubted = {.disks = 0};
	if (!pairing_known(session->host->pairing, pin)) {
		*ret_code = WIRE_E_UNPAIRED;
		return err_set(err, -EACCES, UNPAIRED);
	}
	if (wire_get_doubt(frame, &doubt))
		return malformed(frame, ret_code, err);
	struct replica *replica = store_find(session->host->store, doubt.name);
	int rc = replica ? replica_doubt(replica, &doubt, pin->bytes, &doubted, err) : 0; // without a replica nothing is believed
	if (rc) {
		*ret_code = rc == -EBADMSG ? WIRE_E_PROTOCOL : open_refusal(rc);
		return rc;
	}
	session->done = true;
	return send_doubted(session, &doubted, err);
}

// Likewise: its own session may be on its way out.
static int on_goodbye(struct session *session, const struct wire_frame *frame, enum wire_error *ret_code, struct err *err)
{
	const struct pin *pin = channel_peer(session->channel);
	struct wire_goodbye goodbye;
	bool news = false;
	if (!pairing_known(session->host->pairing, pin)) {
		*ret_code = WIRE_E_UNPAIRED;
		return err_set(err, -EACCES, UNPAIRED);
	}
	if (wire_get_goodbye(frame, &goodbye))
		return malformed(frame, ret_code, err);
	struct replica *replica = store_find(session->host->store, goodbye.name);
	int rc = replica ? replica_goodbye(replica, &goodbye, pin->bytes, &news, err) : 0;
	if (rc) {
		*ret_code = open_refusal(rc);
		return rc;
	}
	if (news)
		watch_goodbye(session->host->watch, replica);
	session->done = true;
	const struct wire_parted parted = {.noted = replica != NULL};
	return reply(session, wire_put_parted(channel_room(session->channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, &parted), err);
}

static int on_certain(struct session *session, const struct wire_frame *frame, enum wire_error *ret_code, struct err *err)
{
	struct wire_certain certain;
	if (wire_get_certain(frame, &certain))
		return malformed(frame, ret_code, err);
	replica_certain(session->replica, &certain);
	return 0;
}

static int on_seeded(struct session *session, const struct wire_frame *frame, enum wire_error *ret_code, struct err *err)
{
	session->seeded = true;
	return wire_get_empty(frame) ? malformed(frame, ret_code, err) : 0;
}

static enum wire_error store_refusal(int rc)
{
	switch (rc) {
	case -ESTALE:
		return WIRE_E_POSITION;
	case -ENOSPC:
		return WIRE_E_NO_SPACE;
	case -EDQUOT:
		return WIRE_E_QUOTA;
	case -EBADMSG:
	case -EINVAL:
	case -ERANGE:
		return WIRE_E_PROTOCOL;
	default:
		return WIRE_E_STORE;
	}
}

// -ESTALE means two things: the source names another position, or it was fenced meanwhile.
static int store_result(const struct session *session, int rc, enum wire_error *ret_code)
{
	if (rc == 0)
		return 0;
	struct replica_info info;
	replica_info(session->replica, &info);
	*ret_code = info.fenced ? WIRE_E_FENCED : store_refusal(rc);
	return rc;
}

static int on_compare(struct session *session, const struct wire_frame *frame, enum wire_error *ret_code, struct err *err)
{
	struct wire_compare compare;
	unsigned char bitmap[WIRE_COMPARE_MAX / 8] = {0};
	if (wire_get_compare(frame, &compare))
		return malformed(frame, ret_code, err);
	int rc = replica_compare(session->replica, &compare, bitmap, err);
	if (rc)
		return store_result(session, rc, ret_code);
	struct wire_differs differs = {
		.disk = compare.disk, .first = compare.first, .count = compare.count, .bitmap = bitmap};
	void *to = channel_room(session->channel, WIRE_FRAME_MAX);
	rc = to ? channel_put(session->channel, wire_put_differs(to, WIRE_FRAME_MAX, &differs)) : -ECONNRESET;
	return rc ? err_sys(err, rc, "answer") : 0; // leaves when there is nothing more to read
}

static int on_nodes(struct session *session, const struct wire_frame *frame, enum wire_error *ret_code, struct err *err)
{
	struct wire_nodes nodes;
	unsigned char bitmap[WIRE_NODES_MAX / 8] = {0};
	if (wire_get_nodes(frame, &nodes))
		return malformed(frame, ret_code, err);
	int rc = replica_compare_nodes(session->replica, &nodes, bitmap, err);
	if (rc)
		return store_result(session, rc, ret_code);
	struct wire_unequal unequal = {
		.disk = nodes.disk, .level = nodes.level, .count = nodes.count, .first = nodes.first, .bitmap = bitmap};
	void *to = channel_room(session->channel, WIRE_FRAME_MAX);
	rc = to ? channel_put(session->channel, wire_put_unequal(to, WIRE_FRAME_MAX, &unequal)) : -ECONNRESET;
	return rc ? err_sys(err, rc, "answer") : 0;
}

static int on_examine(struct session *session, const struct wire_frame *frame, enum wire_error *ret_code, struct err *err)
{
	struct wire_examine examine;
	struct examine_answer found;
	if (wire_get_examine(frame, &examine))
		return malformed(frame, ret_code, err);
	int rc = replica_pieces(session->replica, &examine, &found, err);
	if (rc)
		return store_result(session, rc, ret_code);
	struct digest first;
	struct wire_pieces pieces = {.disk = examine.disk,
				     .count = examine.count,
				     .first = wire_examine_get(examine.entries, 0, &first),
				     .answer = found.answer,
				     .by_pieces = found.by_pieces,
				     .digests = found.digest[0][0].bytes};
	void *to = channel_room(session->channel, WIRE_FRAME_MAX);
	rc = to ? channel_put(session->channel, wire_put_pieces(to, WIRE_FRAME_MAX, &pieces)) : -ECONNRESET;
	return rc ? err_sys(err, rc, "answer") : 0;
}

// Saves the head when it is time, and says so. ACK leaves when there is nothing more to read.
static int checkpoint(struct session *session, enum wire_error *ret_code, struct err *err)
{
	struct replica_info info;
	int rc = replica_checkpoint(session->replica, false, err);
	if (rc < 0)
		return store_result(session, rc, ret_code);
	if (rc == 0 || !(session->features & WIRE_FEATURE_ACK))
		return 0;
	replica_info(session->replica, &info);
	struct wire_ack ack = {.head = info.head, .messages = session->messages, .blocks = info.head_blocks};
	void *to = channel_room(session->channel, WIRE_FRAME_MAX);
	rc = to ? channel_put(session->channel, wire_put_ack(to, WIRE_FRAME_MAX, &ack)) : -ECONNRESET;
	return rc ? err_sys(err, rc, "acknowledge") : 0;
}

static int on_block(struct session *session, const struct wire_frame *frame, enum wire_error *ret_code, struct err *err)
{
	struct wire_block block;
	if (wire_get_block(frame, &block))
		return malformed(frame, ret_code, err);
	int rc = store_result(session, replica_write_block(session->replica, &block, err), ret_code);
	session->messages++;
	return rc ? rc : checkpoint(session, ret_code, err);
}

static int on_zeros(struct session *session, const struct wire_frame *frame, enum wire_error *ret_code, struct err *err)
{
	struct wire_zeros zeros;
	if (wire_get_zeros(frame, &zeros))
		return malformed(frame, ret_code, err);
	int rc = store_result(session, replica_zeros_check(session->replica, &zeros, err), ret_code);
	for (uint64_t left = zeros.count; rc == 0 && left; left -= zeros.count, zeros.first += zeros.count) {
		zeros.count = min_u64(left, ZEROS_SPAN);
		rc = store_result(session, replica_write_zeros(session->replica, &zeros, err), ret_code);
		if (rc == 0 && zeros.count < left)
			rc = checkpoint(session, ret_code, err);
		if (rc == 0)
			rc = speak(session, err);
	}
	session->messages++;
	return rc ? rc : checkpoint(session, ret_code, err);
}

static int on_seal(struct session *session, const struct wire_frame *frame, enum wire_error *ret_code, struct err *err)
{
	struct wire_seal seal;
	struct wire_committed committed;
	if (wire_get_seal(frame, &seal))
		return malformed(frame, ret_code, err);
	int rc = store_result(session, replica_seal(session->replica, &seal, &committed, err), ret_code);
	if (rc)
		return rc;
	session->host->committed(session->host->context);
	watch_committed(session->host->watch, session->replica, &seal, &committed);
	return reply(session,
		     wire_put_committed(channel_room(session->channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, &committed), err);
}

static int on_report(struct session *session, const struct wire_frame *frame, enum wire_error *ret_code, struct err *err)
{
	struct wire_report report;
	if (wire_get_report(frame, &report))
		return malformed(frame, ret_code, err);
	int rc = replica_set_rpo(session->replica, report.rpo_ms, err); // first: the watch compares it with what the replica has
	if (rc < 0)
		return store_result(session, rc, ret_code);
	if (rc == 1) {
		struct replica_info info;
		replica_info(session->replica, &info);
		report.rpo_ms = info.rpo_ms;
	}
	watch_report(session->host->watch, session->replica, &report);
	return 0;
}

static int on_ping(struct session *session, const struct wire_frame *frame, enum wire_error *ret_code, struct err *err)
{
	if (wire_get_empty(frame))
		return malformed(frame, ret_code, err);
	return reply(session, wire_put_empty(channel_room(session->channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, WIRE_PONG), err);
}

static int on_clock(struct session *session, const struct wire_frame *frame, enum wire_error *ret_code, struct err *err)
{
	struct wire_time now = {.steps_ns = 0};
	if (wire_get_empty(frame))
		return malformed(frame, ret_code, err);
	if (!watch_time(session->host->watch, session->replica, &now))
		now.wall_ns = env_wall_ns(session->host->env);
	return reply(session, wire_put_time(channel_room(session->channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, &now), err);
}

static session_handler *const handlers[SESSION_STATES][WIRE_TYPES] = {
	[SESSION_START] = {[WIRE_HELLO] = on_hello},
	[SESSION_READY] = {[WIRE_PAIR] = on_pair, [WIRE_OPEN] = on_open, [WIRE_SEEDED] = on_seeded,
			   [WIRE_DOUBT] = on_doubt, [WIRE_GOODBYE] = on_goodbye},
	[SESSION_OPEN] = {[WIRE_COMPARE] = on_compare,
			  [WIRE_BLOCK] = on_block,
			  [WIRE_ZEROS] = on_zeros,
			  [WIRE_SEAL] = on_seal,
			  [WIRE_NODES] = on_nodes,
			  [WIRE_EXAMINE] = on_examine,
			  [WIRE_CERTAIN] = on_certain,
			  [WIRE_REPORT] = on_report,
			  [WIRE_CLOCK] = on_clock,
			  [WIRE_PING] = on_ping},
};

static int dispatch(struct session *session, const struct wire_frame *frame, enum wire_error *ret_code, struct err *err)
{
	static const char *const states[] = {"start", "ready", "open"};
	session_handler *handler = frame->type < WIRE_TYPES ? handlers[session->state][frame->type] : NULL;
	*ret_code = WIRE_E_PROTOCOL;
	if (frame->type == WIRE_ERROR)
		return err_set(err, -ECONNRESET, "the source ended the session");
	if (!handler)
		return err_set(err, -EBADMSG, "%s (%u) is not allowed in state %s", wire_type_name(frame->type), frame->type,
			       states[session->state]);
	return handler(session, frame, ret_code, err);
}

// What happened elsewhere: a session that is open ends when its protection was failed over, is to be opened again, or its source is not paired any more.
static int look_around(struct session *session, enum wire_error *ret_code, struct err *err)
{
	struct replica_info info;
	session->looked_ns = now_ns(session);
	if (session->state != SESSION_OPEN)
		return 0;
	if (!pairing_known(session->host->pairing, channel_peer(session->channel))) {
		*ret_code = WIRE_E_UNPAIRED;
		return err_set(err, -EACCES, "this source is not paired with the receiver any more");
	}
	replica_info(session->replica, &info);
	if (info.fenced) {
		*ret_code = WIRE_E_FENCED;
		return err_set(err, -ESTALE, "%s was failed over to point %llu: this source is fenced and its deltas are not taken any more", info.name,
			       (unsigned long long)info.fenced_point);
	}
	if (info.reopen) {
		*ret_code = WIRE_E_POSITION;
		return err_set(err, -ESTALE, "a scrub found damaged blocks of %s at the receiver: open again, and they are named", info.name);
	}
	return 0;
}

// While the peer is silent.
static int idle_check(struct session *session, enum wire_error *ret_code, struct err *err)
{
	uint64_t now = now_ns(session), silent_ms;
	if (channel_moves(session->channel)) // a part of a large frame, or of what it is being told
		session->heard_ns = now;
	silent_ms = (now - session->heard_ns) / 1000000;
	if (silent_ms > CHANNEL_STALL_MS) {
		session->done = true; // whoever is silent is gone, or its line is: it broke no protocol, and hears nothing
		return err_set(err, -ETIMEDOUT, "the source has been silent for %llu s", (unsigned long long)silent_ms / 1000);
	}
	int rc = look_around(session, ret_code, err);
	if (rc == 0 && session->state == SESSION_OPEN)
		rc = checkpoint(session, ret_code, err);
	return rc ? rc : channel_flush(session->channel, err);
}

// One frame, or one look around. What was answered leaves before the session waits.
static int step(struct session *session, enum wire_error *ret_code, struct err *err)
{
	struct wire_frame frame;
	*ret_code = WIRE_E_PROTOCOL;
	uint64_t now = now_ns(session), age_ms = (now - session->began_ns) / 1000000;
	if (session->worked) // meanwhile nobody listened
		session->heard_ns = now;
	session->worked = false;
	if (session->state != SESSION_OPEN && age_ms > GREETING_MS) { // else strangers could hold every place for ever
		session->done = true; // as in idle_check()
		return err_set(err, -ETIMEDOUT, "neither PAIR nor OPEN came within %d s", GREETING_MS / 1000);
	}
	int rc = channel_get(session->channel, 0, &frame, err);
	if (rc == 0) {
		session->spoke_ns = now_ns(session);
		rc = channel_flush(session->channel, err);
		if (rc == 0)
			rc = channel_get(session->channel, POLL_MS, &frame, err);
		else
			return rc;
	}
	if (rc == 0)
		return idle_check(session, ret_code, err);
	if (rc < 0)
		return rc;
	session->heard_ns = now_ns(session);
	rc = speak(session, err); // of a source that leaves no pause
	if (rc == 0 && session->heard_ns - session->looked_ns >= POLL_MS * UINT64_C(1000000))
		rc = look_around(session, ret_code, err);
	session->worked = true;
	return rc ? rc : dispatch(session, &frame, ret_code, err);
}

void session_run(const struct session_host *host, struct channel *channel, const char *peer_address)
{
	struct session session = {
		.host = host,
		.channel = channel,
		.peer_address = peer_address,
		.began_ns = env_mono_ns(host->env),
		.heard_ns = env_mono_ns(host->env),
		.spoke_ns = env_mono_ns(host->env),
	};
	struct err err = {0};
	enum wire_error code;
	int rc = 0;
	while (rc == 0 && !session.done)
		rc = step(&session, &code, &err);
	if (session.replica) {
		struct replica_info info;
		replica_info(session.replica, &info);
		log_info("session ended protection=%s peer=%s reason=\"%s\"", info.name, peer_address, err.text);
		watch_disconnected(host->watch, session.replica, err.text); // first: once it has ended another one may begin, and say that it is there
		replica_session_end(session.replica);
	} else if (rc && rc != -ECONNRESET) {
		log_warning("connection refused peer=%s reason=\"%s\"", peer_address, err.text);
	}
	if (rc && rc != -ECONNRESET && !session.done)
		channel_refuse(channel, code, err.text);
}
