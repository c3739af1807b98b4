/*
 * What of the caller's descriptors 0, 1 and 2 the command gets. Files and pipes are handed on as they
 * are. A terminal never is: who holds one can read its keyboard, change its modes and fake its
 * input. In its place the command gets
 *
 *	input and output are terminals (or --tty)   the slave of a pty of the sandbox's own, which is
 *	                                            its controlling terminal; ours is raw meanwhile
 *	output is one, input is not                 such a slave as output only, without processing
 *	input is one, output is not                 /dev/null: reading ahead would take the keyboard
 *	                                            from the next program of a pipeline
 *	--no-tty                                    a pipe for each
 *
 * and main_run_relay.c moves the bytes. So it does for outputs that --limit output counts.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "isolate/main_run.h"
#include "isolate/own.h"

static bool is_interactive(const struct run_opts *o)
{
	return o->tty == RUN_TTY_YES || (o->tty == RUN_TTY_AUTO && isatty(0) && isatty(1));
}

/* Whether the slave of a pty is to be the command's descriptor i. */
static bool wants_slave(const struct run_opts *o, int i)
{
	if (o->tty == RUN_TTY_NO)
		return false;
	return o->tty == RUN_TTY_YES || (isatty(i) && (i > 0 || is_interactive(o)));
}

bool stdio_needs_pty(const struct run_opts *o)
{
	return wants_slave(o, 0) || wants_slave(o, 1) || wants_slave(o, 2);
}

/*
 * Our own way to descriptor fd. A terminal is opened anew where it can be, not to wait in a write to it
 * while signals wait for us; the flag would otherwise be set for everybody who shares it.
 */
static int open_own(int fd, bool input)
{
	char path[32];
	int own = -1;

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	if (isatty(fd) && !input)
		own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return own >= 0 ? own : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

/* Takes both descriptors over, whatever comes of it. */
static struct channel *add_channel(struct stdio_plan *s, int from, int to, struct err *e)
{
	struct channel *c = &s->channel[s->nchannels];

	*c = (struct channel){.from = from, .to = to, .p = malloc(CHANNEL_BYTES), .last = '\n'};
	s->nchannels++;
	if (from >= 0 && to >= 0 && c->p)
		return c;
	err_set(e, ERR_SETUP, errno, "relay the standard streams");
	return NULL;
}

static int own_fd(struct stdio_plan *s, int i, int fd, const char *what, struct err *e)
{
	s->fds[i] = s->own[i] = fd;
	return fd >= 0 ? 0 : err_set(e, ERR_SETUP, errno, "%s", what);
}

/* A pipe between the caller's descriptor i and the command's. */
static int add_pipe(struct stdio_plan *s, int i, struct err *e)
{
	struct channel *c;
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return err_set(e, ERR_SETUP, errno, "make a pipe");
	s->fds[i] = s->own[i] = p[i ? 1 : 0];
	c = i ? add_channel(s, p[0], open_own(i, false), e)
	      : add_channel(s, open_own(0, true), p[1], e);
	if (!c)
		return -1;
	c->counted = i > 0;
	/* our end only: the other is the command's own description */
	return fcntl(i ? c->from : c->to, F_SETFL, O_NONBLOCK) < 0
		       ? err_set(e, ERR_SETUP, errno, "make a pipe non-blocking")
		       : 0;
}

/* The modes of the slave, set by the master before any command has it; termios(3). */
static int set_modes(const struct stdio_plan *s, struct err *e)
{
	struct termios t;

	if (fcntl(s->master, F_SETFL, O_RDWR | O_NONBLOCK) < 0 || tcgetattr(s->master, &t) < 0)
		return err_set(e, ERR_SETUP, errno, "use the pseudo terminal");
	if (s->interactive)
		t.c_iflag |= IUTF8;
	else
		t.c_oflag &= ~(tcflag_t)OPOST; /* the caller's terminal does its own */
	return tcsetattr(s->master, TCSANOW, &t) < 0
		       ? err_set(e, ERR_SETUP, errno, "set the modes of the pseudo terminal")
		       : 0;
}

/* Where the slave's output goes: the first descriptor that it stands for. */
static int pty_output(const struct run_opts *o)
{
	return wants_slave(o, 1) ? 1 : wants_slave(o, 2) ? 2 : 0;
}

static int add_pty(struct stdio_plan *s, const struct run_opts *o, int master, struct err *e)
{
	struct channel *out = add_channel(s, master, open_own(pty_output(o), false), e), *in;
	int flags = O_RDWR | O_NOCTTY | O_CLOEXEC;

	s->master = master;
	if (!out)
		return -1;
	out->counted = true;
	if (set_modes(s, e) < 0)
		return -1;
	stdio_resize(s);
	for (int i = 0; i < 3; i++)
		if (wants_slave(o, i) && own_fd(s, i, ioctl(master, TIOCGPTPEER, flags),
						 "open the pseudo terminal", e) < 0)
			return -1;
	s->hold = ioctl(master, TIOCGPTPEER, flags);
	if (s->hold < 0)
		return err_set(e, ERR_SETUP, errno, "open the pseudo terminal");
	if (!wants_slave(o, 0))
		return 0;
	in = add_channel(s, open_own(0, true), fcntl(master, F_DUPFD_CLOEXEC, 3), e);
	if (!in)
		return -1;
	in->eot = true;
	return 0;
}

/* What has no slave: a pipe, nothing, or the caller's own. */
static int add_rest(struct stdio_plan *s, const struct run_opts *o, struct err *e)
{
	for (int i = 0; i < 3; i++) {
		bool tty = isatty(i);

		if (s->own[i] >= 0)
			continue;
		s->fds[i] = i;
		if (i == 0 && tty && o->tty != RUN_TTY_NO) {
			if (own_fd(s, 0, open("/dev/null", O_RDONLY | O_CLOEXEC), "open /dev/null",
				    e) < 0)
				return -1;
		} else if ((tty || (i > 0 && o->output_max)) && add_pipe(s, i, e) < 0) {
			return -1;
		}
	}
	return 0;
}

int stdio_open(struct stdio_plan *s, const struct run_opts *o, int master, struct err *e)
{
	*s = (struct stdio_plan){.own = {-1, -1, -1},
		.master = -1,
		.hold = -1,
		.interactive = is_interactive(o),
		.winsize_from = isatty(0)   ? 0
				: isatty(1) ? 1
					    : 2,
		.output_max = o->output_max};
	if (master >= 0 && add_pty(s, o, master, e) < 0)
		return -1;
	return add_rest(s, o, e);
}

void stdio_sent(struct stdio_plan *s)
{
	for (int i = 0; i < 3; i++)
		own_close(&s->own[i]);
}

void stdio_resize(const struct stdio_plan *s)
{
	struct winsize w = {.ws_row = 24, .ws_col = 80};

	if (s->master < 0)
		return;
	ioctl(s->winsize_from, TIOCGWINSZ, &w); /* no terminal: the size above */
	ioctl(s->master, TIOCSWINSZ, &w);
}

int stdio_enter(struct stdio_plan *s, struct err *e)
{
	struct termios t;

	if (s->master < 0)
		return 0;
	stdio_resize(s);
	if (s->raw || !s->interactive || !isatty(0))
		return 0;
	if (tcgetattr(0, &s->saved) < 0)
		return err_set(e, ERR_SETUP, errno, "read the modes of the terminal");
	t = s->saved;
	cfmakeraw(&t);
	/* In the background this stops us with SIGTTOU, as it should: fg continues here. */
	while (tcsetattr(0, TCSADRAIN, &t) < 0)
		if (errno != EINTR)
			return err_set(e, ERR_SETUP, errno, "set the modes of the terminal");
	s->raw = true;
	return 0;
}

void stdio_leave(struct stdio_plan *s)
{
	sigset_t out, old;

	if (!s->raw)
		return;
	/* Ours are the modes, so they are put back from the background too. */
	sigemptyset(&out);
	sigaddset(&out, SIGTTOU);
	sigprocmask(SIG_BLOCK, &out, &old);
	while (tcsetattr(0, TCSADRAIN, &s->saved) < 0 && errno == EINTR)
		;
	sigprocmask(SIG_SETMASK, &old, NULL);
	s->raw = false;
}

void stdio_close(struct stdio_plan *s)
{
	stdio_leave(s);
	stdio_sent(s);
	own_close(&s->hold);
	for (size_t i = 0; i < s->nchannels; i++) {
		own_close(&s->channel[i].from);
		own_close(&s->channel[i].to);
		free(s->channel[i].p);
	}
	s->nchannels = 0;
	s->master = -1;
}
