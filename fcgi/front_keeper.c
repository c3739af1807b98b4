#include "fcgi/front_int.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "fcgi/keeper.h"
#include "isolate/ended.h"
#include "isolate/log.h"
#include "isolate/own.h"

enum { KEEPER_PAUSE_MS = 1000 };

int front_watch(struct front *f, int fd, int *kind, int value, struct err *e)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = kind};

	*kind = value;
	if (epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
		return err_set(e, ERR_SETUP, errno, "watch descriptor %d", fd);
	return 0;
}

/* One copy of several: holds on to the keeper that they share, and starts one when it is gone. */
static int64_t adjust_presence(struct front *f, int64_t now)
{
	struct err e;

	if (f->presence >= 0 || f->stopping)
		return INT64_MAX;
	if (now < f->keeper_after)
		return f->keeper_after;
	f->keeper_after = now + KEEPER_PAUSE_MS;
	f->presence = keeper_ensure(f->conf, &e);
	if (f->presence >= 0 && front_watch(f, f->presence, &f->kind_keeper, KIND_KEEPER, &e) == 0)
		return INT64_MAX;
	own_close(&f->presence);
	log_err(LOG_ERROR, &e, "keeper");
	return f->keeper_after;
}

int64_t front_adjust_keeper(struct front *f, int64_t now)
{
	struct err e;
	int line[2];

	if (!f->args->own)
		return adjust_presence(f, now);
	if (f->keeper || f->stopping)
		return INT64_MAX;
	if (now < f->keeper_after)
		return f->keeper_after;
	f->keeper_after = now + KEEPER_PAUSE_MS;
	if (pipe2(line, O_CLOEXEC) < 0) {
		log_line(LOG_ERROR, "keeper: %s", strerrordesc_np(errno));
		return f->keeper_after;
	}
	f->keeper = keeper_spawn(f->conf, line[0], &e);
	close(line[0]);
	if (f->keeper < 0) {
		log_err(LOG_ERROR, &e, "keeper");
		close(line[1]);
		f->keeper = 0;
		return f->keeper_after;
	}
	f->keeper_line = line[1];
	f->keeper_born = now;
	return INT64_MAX;
}

void front_keeper_died(struct front *f, int status, int64_t now)
{
	char how[64];

	log_line(f->stopping ? LOG_INFO : LOG_ERROR, "keeper %d ended: %s", (int)f->keeper,
		ended_text(status, how, sizeof how));
	if (!f->stopping)
		stats_add(&f->stats, COUNT_KEEPER_DEATHS, 1);
	f->keeper = 0;
	own_close(&f->keeper_line);
	f->keeper_after = now - f->keeper_born < KEEPER_PAUSE_MS ? now + KEEPER_PAUSE_MS : now;
}
