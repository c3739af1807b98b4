/*
 * Posts to 127.0.0.1 over CONNECTIONS kept-alive connections, each of which waits for its answer
 * before it sends again, for SECONDS.
 *	KEY=... bench-load PORT CONNECTIONS SECONDS GAP_MS EXPECT <LINES
 * A line is a path, a tab and a JSON body; connection i uses line i modulo their number. GAP_MS: one
 * connection pauses so long between answer and request. An answer that is no 200 or does not hold the
 * text EXPECT is an error. Writes: requests, errors, seconds, and the microseconds of each request
 * of a sample of up to 20,000; then the first wrong answer, if any.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 1024, ANSWER_MAX = 65536, SAMPLES_MAX = 20000, LINES_MAX = 1024 };

struct connection {
	char *request;
	double sent;
	size_t have;
	char answer[ANSWER_MAX + 1];
};

struct load {
	struct sockaddr_in to;
	struct connection *c;
	struct pollfd *p;
	int n;
	const char *expect;
	char *line[LINES_MAX];
	int nlines;
	double end, gap_us;
	double us[SAMPLES_MAX];
	long done, errors;
	char wrong[600];
};

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int open_connection(struct load *l, int i)
{
	int one = 1, s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (s < 0 || connect(s, (struct sockaddr *)&l->to, sizeof l->to) < 0) {
		perror("bench-load: connect");
		return -1;
	}
	setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	l->p[i] = (struct pollfd){.fd = s, .events = POLLIN};
	l->c[i].have = 0;
	return 0;
}

static int send_request(struct load *l, int i)
{
	struct connection *c = &l->c[i];
	size_t n = strlen(c->request);

	c->have = 0;
	c->sent = now_us();
	return send(l->p[i].fd, c->request, n, MSG_NOSIGNAL) == (ssize_t)n ? 0 : -1;
}

/* A value of the answer's head, or NULL. */
static const char *header(const char *head, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = strstr(head, "\r\n"); p && p[2] != '\r'; p = strstr(p + 2, "\r\n"))
		if (!strncasecmp(p + 2, name, n) && p[2 + n] == ':')
			return p + 3 + n;
	return NULL;
}

static bool complete(struct connection *c)
{
	const char *body, *v;

	c->answer[c->have] = '\0';
	body = strstr(c->answer, "\r\n\r\n");
	if (!body)
		return false;
	body += 4;
	v = header(c->answer, "Content-Length");
	if (v)
		return c->have - (size_t)(body - c->answer) >= strtoul(v, NULL, 10);
	v = header(c->answer, "Transfer-Encoding");
	return v && c->have >= 5 && !memcmp(c->answer + c->have - 5, "0\r\n\r\n", 5);
}

static void note_answer(struct load *l, struct connection *c)
{
	double us = now_us() - c->sent;

	if (strncmp(c->answer, "HTTP/1.1 200", 12) || !strstr(c->answer, l->expect)) {
		if (!l->errors++)
			snprintf(l->wrong, sizeof l->wrong, "%.*s", 500, c->answer);
		return;
	}
	/* Once the sample is full a newer one takes a place by lot. */
	long place = l->done < SAMPLES_MAX ? l->done : random() % (l->done + 1);

	if (place < SAMPLES_MAX)
		l->us[place] = us;
	l->done++;
}

/* A connection that the server closed, as it may after any number of answers. */
static int reopen(struct load *l, int i)
{
	if (l->c[i].have && !l->errors++)
		snprintf(l->wrong, sizeof l->wrong, "closed within an answer");
	close(l->p[i].fd);
	return open_connection(l, i) < 0 ? -1 : send_request(l, i);
}

static int readable(struct load *l, int i)
{
	struct connection *c = &l->c[i];
	ssize_t n = recv(l->p[i].fd, c->answer + c->have, ANSWER_MAX - c->have, 0);
	bool close_after;

	if (n <= 0)
		return reopen(l, i);
	c->have += (size_t)n;
	if (!complete(c))
		return 0;
	note_answer(l, c);
	close_after = header(c->answer, "Connection") &&
		      !strncasecmp(header(c->answer, "Connection") + 1, "close", 5);
	c->have = 0;
	if (l->gap_us > 0)
		usleep((useconds_t)l->gap_us);
	if (now_us() >= l->end) {
		close(l->p[i].fd);
		l->p[i].fd = -1;
		return 0;
	}
	if (close_after || send_request(l, i) < 0)
		return reopen(l, i);
	return 0;
}

static int run(struct load *l)
{
	int open = l->n;

	for (int i = 0; i < l->n; i++)
		if (open_connection(l, i) < 0 || send_request(l, i) < 0)
			return -1;
	while (open) {
		if (poll(l->p, (nfds_t)l->n, 60000) <= 0) {
			fprintf(stderr, "bench-load: no answer in 60 s\n");
			return -1;
		}
		open = 0;
		for (int i = 0; i < l->n; i++) {
			if (l->p[i].fd >= 0 && l->p[i].revents && readable(l, i) < 0)
				return -1;
			open += l->p[i].fd >= 0;
		}
	}
	return 0;
}

static void make_request(struct load *l, int i)
{
	char *line = l->line[i % l->nlines], *body = strchr(line, '\t');

	if (asprintf(&l->c[i].request,
		    "POST %.*s HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: %s\r\n"
		    "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
		    (int)(body - line), line, getenv("KEY") ? getenv("KEY") : "", strlen(body + 1),
		    body + 1) < 0)
		exit(71);
}

static void read_lines(struct load *l)
{
	size_t cap = 0;

	for (; l->nlines < LINES_MAX; l->nlines++) {
		char **line = &l->line[l->nlines];

		cap = 0;
		if (getline(line, &cap, stdin) <= 0)
			break;
		(*line)[strcspn(*line, "\n")] = '\0';
		if (!strchr(*line, '\t'))
			exit(64);
	}
}

int main(int argc, char **argv)
{
	struct load *l = calloc(1, sizeof *l);
	double start;

	if (!l || argc != 6 || (l->n = atoi(argv[2])) < 1 || l->n > CONNECTIONS_MAX) {
		fprintf(stderr,
			"usage: bench-load PORT CONNECTIONS SECONDS GAP_MS EXPECT <LINES\n");
		return 64;
	}
	l->to = (struct sockaddr_in){.sin_family = AF_INET,
		.sin_port = htons((in_port_t)atoi(argv[1])),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	l->gap_us = atof(argv[4]) * 1000;
	l->expect = argv[5];
	l->c = calloc((size_t)l->n, sizeof *l->c);
	l->p = calloc((size_t)l->n, sizeof *l->p);
	read_lines(l);
	if (!l->c || !l->p || !l->nlines)
		return 71;
	for (int i = 0; i < l->n; i++)
		make_request(l, i);
	start = now_us();
	l->end = start + atof(argv[3]) * 1e6;
	if (run(l) < 0)
		return 1;
	printf("%ld %ld %.6f", l->done, l->errors, (now_us() - start) / 1e6);
	for (long i = 0; i < l->done && i < SAMPLES_MAX; i++)
		printf(" %.0f", l->us[i]);
	printf("\n%s", l->wrong);
	return 0;
}
