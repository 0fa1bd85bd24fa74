// SPDX-License-Identifier: Apache-2.0
// The thread that makes marks durable: takes a batch from the loop thread, commits it disk by disk, and hands it back.
//
// One batch is under way at a time; what arrives meanwhile is the next one. So the state file of a disk has one user, marks and
// clears reach it in order, and the loop thread never waits for its sync.
#ifndef KAGAMI_REPLICATOR_MARKER_H
#define KAGAMI_REPLICATOR_MARKER_H

#include "replicator/export.h"
#include "replicator/intent.h"
#include "replicator/ring.h"

#include <pthread.h>

struct marker {
	struct export_marker config;
	struct ring *ring;
	void (*done)(struct marker *marker); // on the ring's thread: the batch is back; `res` and `err` of its parts are set
	struct intent_batch batch;
	struct err err[DISKS_MAX]; // of a part that failed
	struct ring_message message;

	pthread_t thread;
	bool running;
	pthread_mutex_t lock; // over the two below
	pthread_cond_t changed;
	bool full, stop;
};

int marker_start(struct marker *marker, const struct export_marker *config, struct ring *ring, void (*done)(struct marker *),
		 struct err *err);
void marker_stop(struct marker *marker); // no batch is under way; does nothing when it was not started
// By the loop thread: marker->batch is full. It is the marker's until `done`.
void marker_commit(struct marker *marker);

#endif
