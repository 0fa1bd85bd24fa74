// SPDX-License-Identifier: Apache-2.0
#include "rpo/meter.h"

#include "base/size.h"

#define SECOND_NS UINT64_C(1000000000)
enum { SUMS = METER_SUMS + 1 };

static uint64_t stretch_at(const struct meter *meter, uint64_t now_ns)
{
	return now_ns / (meter->stretch_ns ? meter->stretch_ns : SECOND_NS);
}

void meter_add(struct meter *meter, uint64_t now_ns, uint64_t bytes)
{
	uint64_t stretch = stretch_at(meter, now_ns);
	if (stretch > meter->stretch + SUMS)
		*meter = (struct meter){.stretch_ns = meter->stretch_ns, .stretch = stretch};
	while (meter->stretch < stretch) // what lies between had nothing
		meter->bytes[++meter->stretch % SUMS] = 0;
	meter->bytes[meter->stretch % SUMS] += bytes;
}

uint64_t meter_sum(const struct meter *meter, uint64_t now_ns)
{
	uint64_t stretch = stretch_at(meter, now_ns), sum = 0;
	for (uint64_t back = 1; back <= METER_SUMS && back <= stretch; back++)
		if (stretch - back <= meter->stretch && meter->stretch - (stretch - back) < SUMS)
			sum += meter->bytes[(stretch - back) % SUMS];
	return sum;
}

uint64_t meter_rate(const struct meter *meter, uint64_t now_ns)
{
	return meter_sum(meter, now_ns) / METER_SUMS;
}
