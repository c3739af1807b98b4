/* For how long a request will look at a run: what backend and keeper have in common of it. */
#ifndef CGIBOX_FOLLOW_H
#define CGIBOX_FOLLOW_H

enum run_follow {
	FOLLOW_NOT,
	FOLLOW_WAIT,   /* perhaps until its end, before it answers; half of workers_max may */
	FOLLOW_STREAM, /* the answer is the output as it comes; streams_max */
	FOLLOWS,
};

#endif
