// SPDX-License-Identifier: Apache-2.0
// Reads for a cycle, by a thread of their own: its copies then cost what is left of the processors (priority.h), and not the guest's time.
// A worker of io_uring would do them with the rights of the thread that answers the guest.
//
//	loop: reader_read() ──► queue ──► read, from memory in steps ──► ring_post(job->message) ──► loop
//	                                     └─ not in memory: the disk is asked for all that are queued, then each is waited for
//
// It is also the one who is always there when the kernel has no worker thread for the ring (workers.h): then it runs errands for the loop,
// each before the next read, and with its share of the processors.
//
// Neither side takes a lock that the other holds: the one has a guest that waits, the other may be without a processor for long.
#ifndef KAGAMI_REPLICATOR_READER_H
#define KAGAMI_REPLICATOR_READER_H

#include "base/err.h"
#include "replicator/cold.h"
#include "replicator/ring.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

// The caller's memory until its message ran.
struct reader_job {
	struct ring_message message; // posted at the end
	int fd;
	struct cold *cold; // of the image
	unsigned char *data;
	uint64_t off, len;
	int res; // 0, or -EIO where the file ends before; else a negative errno
	bool ended; // the former
	uint64_t at;
	struct reader_job *next;
};

// Likewise.
struct reader_errand {
	struct ring_message message; // returned at the end
	void (*run)(struct reader_errand *errand); // on the reader's thread; may wait
	struct reader_errand *next;
};

struct reader {
	struct ring *ring;
	_Atomic(struct reader_job *) jobs; // the newest first
	_Atomic(struct reader_errand *) errands; // likewise
	uint64_t errand_ns; // when the last one was run, or began to be; 0: none was. Its own
	sem_t wake;
	_Atomic bool hurry, stop;
	pthread_t thread;
	bool running;
};

int reader_start(struct reader *reader, struct ring *ring, struct err *err);
void reader_stop(struct reader *reader); // no job or errand is under way; may be called when it does not run
void reader_read(struct reader *reader, struct reader_job *job); // loop thread
// Runs the errand before any read that has not begun, after the errands that came before it. Loop thread.
void reader_run_errand(struct reader *reader, struct reader_errand *errand);
// Whether its reads must not wait until nobody else wants the processors. Any thread.
void reader_hurry(struct reader *reader, bool hurry);

#endif
