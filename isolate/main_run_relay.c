/*
 * Moves bytes between the caller's descriptors and the command's pty or pipes. Our ends of ptys and pipes
 * do not block; the caller's are written to when poll(2) says so, and in pieces that a pipe then
 * takes at once.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "isolate/main_run.h"
#include "isolate/own.h"

static bool wants_read(const struct channel *c)
{
	return c->from >= 0 && c->len == 0;
}

static bool wants_write(const struct channel *c)
{
	return c->to >= 0 && c->len > 0;
}

size_t relay_poll(const struct stdio_plan *s, struct pollfd *p)
{
	for (size_t i = 0; i < s->nchannels; i++) {
		const struct channel *c = &s->channel[i];

		p[2 * i] = (struct pollfd){.fd = wants_read(c) ? c->from : -1, .events = POLLIN};
		p[2 * i + 1] = (struct pollfd){
			.fd = wants_write(c) ? c->to : -1, .events = POLLOUT};
	}
	return 2 * s->nchannels;
}

/* Its reader learns of the end: a closed pipe, or at a terminal the end-of-file character, once to end
 * a line that was begun and once for itself. */
static void end_of_input(struct channel *c)
{
	own_close(&c->from);
	if (c->eot && c->to >= 0) {
		struct termios t;
		char eof = tcgetattr(c->to, &t) == 0 ? (char)t.c_cc[VEOF] : 4;

		c->p[0] = c->p[1] = eof;
		c->at = c->last == '\n';
		c->len = c->at ? 1 : 2;
		c->eot = false;
		return;
	}
	own_close(&c->to);
}

/* True when the output limit was passed; what lies beyond it is dropped. */
static bool count(struct stdio_plan *s, struct channel *c)
{
	uint64_t room = s->output_max - s->output_bytes;

	if (!c->counted)
		return false;
	s->output_bytes += c->len;
	if (!s->output_max || c->len <= room)
		return false;
	c->len = (size_t)room;
	s->output_max = s->output_bytes; /* said once; nothing more passes */
	return true;
}

static bool take(struct stdio_plan *s, struct channel *c)
{
	bool pty = c->from == s->master;
	ssize_t n = read(c->from, c->p, CHANNEL_BYTES);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) { /* EIO: a pty without a slave, or a terminal that has hung up */
		end_of_input(c);
		if (pty)
			s->master = -1;
		return false;
	}
	c->at = 0;
	c->len = (size_t)n;
	c->last = c->p[n - 1];
	return count(s, c);
}

static void give(struct stdio_plan *s, struct channel *c)
{
	ssize_t n = write(c->to, c->p + c->at, c->len < PIPE_BUF ? c->len : PIPE_BUF);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) { /* nobody reads any more: the writer is to learn the same way */
		c->len = 0;
		own_close(&c->to);
		if (c->from == s->master) {
			s->master = -1; /* a hangup needs all of our copies closed */
			relay_stop_input(s);
		}
		own_close(&c->from);
		return;
	}
	c->at += (size_t)n;
	c->len -= (size_t)n;
	if (c->len == 0 && c->from < 0)
		own_close(&c->to);
}

bool relay_move(struct stdio_plan *s, const struct pollfd *p)
{
	bool over = false;

	for (size_t i = 0; i < s->nchannels; i++) {
		struct channel *c = &s->channel[i];

		if (p[2 * i].revents && wants_read(c))
			over |= take(s, c);
		if (p[2 * i + 1].revents && wants_write(c))
			give(s, c);
	}
	return over;
}

void relay_stop_input(struct stdio_plan *s)
{
	for (size_t i = 0; i < s->nchannels; i++)
		if (!s->channel[i].counted) {
			own_close(&s->channel[i].from);
			own_close(&s->channel[i].to);
			s->channel[i].len = 0;
		}
}

void relay_finish(struct stdio_plan *s)
{
	relay_stop_input(s);
	own_close(&s->hold);
}

bool relay_busy(const struct stdio_plan *s)
{
	for (size_t i = 0; i < s->nchannels; i++)
		if (s->channel[i].from >= 0 || s->channel[i].len > 0)
			return true;
	return false;
}
