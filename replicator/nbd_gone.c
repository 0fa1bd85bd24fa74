// SPDX-License-Identifier: Apache-2.0
#include "replicator/nbd_gone.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

// Both counts begin anew with each answer. One alone may have been lost, and its successor be on its way just now.
bool nbd_gone(int fd, int after_ms)
{
	struct tcp_info info = {.tcpi_state = 0};
	socklen_t len = sizeof(info);
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return false;
	bool asked = info.tcpi_retransmits >= NBD_GONE_ASKED || info.tcpi_probes >= NBD_GONE_ASKED;
	return asked && info.tcpi_last_ack_recv >= (unsigned)after_ms;
}
