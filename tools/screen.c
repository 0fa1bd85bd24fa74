// SPDX-License-Identifier: Apache-2.0
#include "tools/screen.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

// The alternate screen; no cursor; a line that is too long ends at the edge.
#define ENTER "\033[?1049h\033[?25l\033[?7l\033[2J"
#define LEAVE "\033[?7h\033[?25h\033[?1049l"

static struct termios before;
static volatile sig_atomic_t resized, ended;

static void on_signal(int signal)
{
	if (signal == SIGWINCH)
		resized = 1;
	else
		ended = 1;
}

static void write_all(const char *text, size_t len)
{
	while (len) {
		ssize_t n = write(STDOUT_FILENO, text, len);
		if (n < 0 && errno != EINTR) {
			ended = 1; // the terminal is gone
			return;
		}
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
}

static void measure(struct screen *screen)
{
	struct winsize size = {.ws_col = 80, .ws_row = 24};
	(void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	screen->columns = size.ws_col > SCREEN_COLUMNS_MAX ? SCREEN_COLUMNS_MAX : size.ws_col ? size.ws_col : 80;
	screen->rows = size.ws_row > SCREEN_ROWS_MAX ? SCREEN_ROWS_MAX : size.ws_row ? size.ws_row : 24;
}

static void forget(struct screen *screen)
{
	for (unsigned i = 0; i < SCREEN_ROWS_MAX; i++) {
		free(screen->shown[i]);
		screen->shown[i] = NULL;
	}
}

int screen_begin(struct screen *screen, struct err *err)
{
	struct sigaction action = {.sa_handler = on_signal}; // without SA_RESTART: a wait ends
	*screen = (struct screen){.columns = 0};
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &before))
		return err_set(err, -ENOTTY, "it needs a terminal; \"kagami status\" does not, and \"kagami status --json\" is for programs");
	(void)setlocale(LC_CTYPE, "");
	screen->blocks = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	const char *no_colour = getenv("NO_COLOR");
	screen->colour = !no_colour || !no_colour[0];
	static const int signals[] = {SIGWINCH, SIGINT, SIGQUIT, SIGTERM, SIGHUP};
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		(void)sigaction(signals[i], &action, NULL);
	struct termios raw = before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	measure(screen);
	write_all(ENTER, strlen(ENTER));
	return 0;
}

void screen_end(struct screen *screen)
{
	write_all(LEAVE, strlen(LEAVE));
	(void)tcsetattr(STDIN_FILENO, TCSANOW, &before);
	forget(screen);
}

void screen_draw(struct screen *screen, char *const *lines, unsigned count)
{
	char *frame = NULL;
	size_t len = 0;
	FILE *to = open_memstream(&frame, &len);
	if (!to)
		abort();
	for (unsigned row = 0; row < screen->rows; row++) {
		const char *line = row < count ? lines[row] : "";
		if (screen->shown[row] && strcmp(screen->shown[row], line) == 0)
			continue;
		(void)fprintf(to, "\033[%u;1H%s\033[0m\033[K", row + 1, line);
		free(screen->shown[row]);
		screen->shown[row] = strdup(line);
		if (!screen->shown[row])
			abort();
	}
	if (fclose(to))
		abort();
	write_all(frame, len);
	free(frame);
}

// What the bytes of one key press mean.
static enum screen_key key_of(const char *bytes, size_t len, char *ret_other)
{
	static const struct {
		const char *bytes;
		enum screen_key key;
	} keys[] = {
		{"\033[A", KEY_UP},	   {"\033OA", KEY_UP},	  {"\033[B", KEY_DOWN},	    {"\033OB", KEY_DOWN},  {"\033[5~", KEY_PAGE_UP},
		{"\033[6~", KEY_PAGE_DOWN}, {"\033[H", KEY_HOME},  {"\033[1~", KEY_HOME},    {"\033OH", KEY_HOME},  {"\033[F", KEY_END},
		{"\033[4~", KEY_END},	   {"\033OF", KEY_END},	  {"k", KEY_UP},	    {"j", KEY_DOWN},	   {" ", KEY_PAGE_DOWN},
		{"b", KEY_PAGE_UP},	   {"g", KEY_HOME},	  {"G", KEY_END},	    {"q", KEY_QUIT},	   {"\003", KEY_QUIT},
	};
	for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (strlen(keys[i].bytes) == len && memcmp(keys[i].bytes, bytes, len) == 0)
			return keys[i].key;
	*ret_other = bytes[0];
	return len == 1 ? KEY_OTHER : KEY_NONE;
}

enum screen_key screen_wait(struct screen *screen, int ms, char *ret_other)
{
	struct pollfd wait = {.fd = STDIN_FILENO, .events = POLLIN};
	char bytes[8];
	int ready = ended || resized ? 0 : poll(&wait, 1, ms);
	if (ended)
		return KEY_QUIT;
	if (resized) {
		resized = 0;
		measure(screen);
		forget(screen);
		write_all("\033[2J", 4);
		return KEY_RESIZED;
	}
	if (ready <= 0)
		return KEY_NONE;
	ssize_t len = read(STDIN_FILENO, bytes, sizeof(bytes));
	if (len == 0 || (len < 0 && errno != EINTR))
		return KEY_QUIT; // the terminal hung up
	return len > 0 ? key_of(bytes, (size_t)len, ret_other) : KEY_NONE;
}
