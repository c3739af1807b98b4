/* Directories whose entries have nothing to do with each other: sessions, layers. */
#ifndef CGIBOX_SPREAD_H
#define CGIBOX_SPREAD_H

/*
 * Asks the file system to place each directory that is made in this one in a part of the disk of its own (chattr(1),
 * T). ext4 puts it beside its parent otherwise; without a journal each new file then looks at all inodes that
 * were freed there in the last minutes, and making and removing sessions gets slower and slower. A wish: other file
 * systems refuse it. fd: borrowed, open for reading. Whoever makes a directory of STATE.
 */
void spread_entries(int fd);

#endif
