/* The parts of the program `cgibox`. Programs stand above the layers: they may include all. */
#ifndef CGIBOX_MAIN_H
#define CGIBOX_MAIN_H

#include "isolate/conf.h"

/* "cgibox run": argv[0] is "run". Returns the exit code. */
int main_run(const struct conf *c, int argc, char **argv);

#endif
