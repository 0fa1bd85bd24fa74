// SPDX-License-Identifier: Apache-2.0
// Tells the service manager (systemd, for units of Type=notify) how far the program is: a datagram of KEY=value lines to the socket that NOTIFY_SOCKET names, as sd_notify(3)
// describes it. Where that is not set, nothing is sent. Any thread, after notify_open().
#ifndef KAGAMI_LINK_NOTIFY_H
#define KAGAMI_LINK_NOTIFY_H

// Takes the socket's name out of the environment, so that no program that we start speaks for us. Before the first thread.
void notify_open(void);
void notify_ready(void); // all sockets answer: what is ordered behind us may begin
void notify_stopping(void);
// The stop goes on, and is to be let do so for `seconds` from now on; `what` is for whoever looks at the unit's status. Waits for nothing.
void notify_stop_goes_on(unsigned seconds, const char *what);

#endif
