/* The static pid 1, carried inside every program that starts sandboxes. */
	.section .rodata
	.global cgibox_init_start
	.global cgibox_init_end
	.balign 16
cgibox_init_start:
	.incbin "cgibox-init"
cgibox_init_end:
	.section .note.GNU-stack,"",@progbits
