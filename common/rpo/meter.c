// SPDX-License-Identifier: Apache-2.0
#include "rpo/meter.h"

#include "base/size.h"

#define SECOND_NS UINT64_C(1000000000)
enum { SUMS = METER_SECONDS + 1 };

void meter_add(struct meter *meter, uint64_t now_ns, uint64_t bytes)
{
	uint64_t second = now_ns / SECOND_NS;
	if (second > meter->second + SUMS)
		*meter = (struct meter){.second = second};
	while (meter->second < second) // what lies between had nothing
		meter->bytes[++meter->second % SUMS] = 0;
	meter->bytes[meter->second % SUMS] += bytes;
}

uint64_t meter_rate(const struct meter *meter, uint64_t now_ns)
{
	uint64_t second = now_ns / SECOND_NS, sum = 0;
	for (uint64_t back = 1; back <= METER_SECONDS && back <= second; back++)
		if (second - back <= meter->second && meter->second - (second - back) < SUMS)
			sum += meter->bytes[(second - back) % SUMS];
	return sum / METER_SECONDS;
}
