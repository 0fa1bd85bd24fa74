// SPDX-License-Identifier: Apache-2.0
// What the next cycle will take, from what the ones before took. Pure; without an allocation.
//
// A cycle takes a fixed part, that of cycles with little to ship, and its bytes over a rate. All of them are means in which the newest cycle
// counts for a quarter; beside them stands the longest one of late, which decays. Times are lead times: from the decision to cut to the commit,
// with what pre-copy takes in between, since it is then that the older point is replaced.
//
// A cycle that takes more than four times what was expected of it, and more than a quarter of the objective, stood still rather than worked: a line that was cut off, a
// host that slept. It is learned as if it had taken just that; with the next one like it as much is expected as that took, up to the objective. Else one standstill would
// bring cut upon cut for as long as it is remembered, with nothing to gain: no cut comes early enough for a line that is gone for longer than the objective.
#ifndef KAGAMI_REPLICATOR_FORECAST_H
#define KAGAMI_REPLICATOR_FORECAST_H

#include <stdint.h>

enum {
	FORECAST_LITTLE_BYTES = 1 << 20, // a cycle with less says of a rate only that it is not below what this one had
	FORECAST_RATE_UNKNOWN = 8 << 20, // what is taken for the rate before a cycle has shown it: the first that has much comes early, and shows it
};
#define FORECAST_RATE_MAX (UINT64_C(1) << 34) // bytes a second: a bound that keeps products in 64 bits
#define FORECAST_NS_MAX (UINT64_C(1) << 60)

struct forecast {
	uint64_t fixed_ns;
	uint64_t rate;	     // bytes a second; 0: not known
	uint64_t growth;     // bytes a second that become dirty
	uint64_t longest_ns; // of late; no more than the objective
};

struct forecast_sample { // of a cycle that was committed
	uint64_t bytes;	 // dirty when it began
	uint64_t lead_ns;
	uint64_t fresh_ns; // in which they became dirty, since the last cut; 0: not known
	uint64_t objective_ns;
};

uint64_t forecast_rate(const struct forecast *forecast); // bytes a second, never 0
void forecast_learn(struct forecast *forecast, const struct forecast_sample *sample);
// Without a margin: at least what the longest one took.
uint64_t forecast_lead_ns(const struct forecast *forecast, uint64_t bytes);
// Bytes that a rate makes in a time, and the time that it needs for bytes; neither wraps. A rate of 0 makes nothing and needs no time.
uint64_t forecast_bytes_in(uint64_t rate, uint64_t ns);
uint64_t forecast_time_of(uint64_t rate, uint64_t bytes);

#endif
