/* Memory that starting up has touched and nothing after it needs. */
#ifndef CGIBOX_SHED_H
#define CGIBOX_SHED_H

/*
 * Takes the pages of programs and libraries that hold no private data out of this process; those
 * that are needed come back from the page cache one by one (madvise(2), MADV_DONTNEED on a file
 * mapping). libcurl and libarchive bring 40 libraries, of which the dynamic linker and
 * constructors have read 9 MB, nearly all for the last time. The program `image`, before it waits
 * or forks.
 */
void shed_startup(void);

#endif
