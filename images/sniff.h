/* What an archive holds, told from the names in it. */
#ifndef CGIBOX_SNIFF_H
#define CGIBOX_SNIFF_H

#include "images/store.h"
#include "isolate/conf.h"
#include "isolate/err.h"

enum sniffed {
	SNIFF_ROOTFS,
	SNIFF_LAYOUT, /* an OCI image layout: oci-layout and index.json at the top */
	SNIFF_SAVED,  /* `docker save`: manifest.json at the top */
};

/*
 * Reads the archive fd (a regular file, from its beginning; the offset is put back) in a child
 * that has entered an empty directory. Returns enum sniffed or -1. The program `image`.
 */
int sniff_archive(const struct store *s, int fd, const struct conf *c, struct err *e);

/* The same for a directory. */
int sniff_directory(int dirfd);

#endif
