# What runs before and after the function: from the reset vector to 64-bit mode, the call, its results to port 0xE9.
#
# bochs.py links it with the function under test, with `called` (the function), `page_tables` (which it writes itself),
# `stack_top`, and the tables `arguments` (ten) and `results` (pairs of address and size).
# All that is sent are quadwords: MARKER, then the status, then what belongs to it.

.set PORT_OUT, 0xe9            # Bochs writes its bytes to its standard output
.set PORT_SHUTDOWN, 0x8900     # Bochs ends when this word arrives
.set RETURNED, 0
.set FAULTED, 1

# The processor begins in real mode 16 bytes below 4 GB. That is our ROM: there is no BIOS to wait for.
.section .rom, "ax"
.code16
real_mode:
    lgdtl %cs:(gdt_register - real_mode)
    movl $1, %eax              # CR0.PE
    movl %eax, %cr0
    ljmpl $0x08, $protected_mode
.balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff   # 0x08: 32-bit code
    .quad 0x00cf93000000ffff   # 0x10: data
    .quad 0x00af9b000000ffff   # 0x18: 64-bit code
gdt_register:
    .word . - gdt - 1
    .long gdt
.org 0xfff0
    jmp real_mode
.balign 16, 0xff

.text
.code32
protected_mode:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $0x40620, %eax        # CR4: PAE, OSFXSR, OSXMMEXCPT, OSXSAVE
    movl %eax, %cr4
    movl $page_tables, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx     # EFER
    xorl %edx, %edx
    movl $0x100, %eax          # LME
    wrmsr
    movl $0x80010023, %eax     # CR0: PG, WP, NE, MP, PE
    movl %eax, %cr0
    ljmpl $0x18, $long_mode

.code64
long_mode:
    movl $stack_top, %esp
    movl $idt, %edi            # each gate holds its handler's address in three pieces, which no relocation can write
    movl $handlers, %eax
1:  movw %ax, (%rdi)
    movl $0x8e000018, 2(%rdi)  # 64-bit code, an interrupt gate
    movl %eax, %edx
    shrl $16, %edx
    movw %dx, 6(%rdi)
    addl $16, %eax
    addl $16, %edi
    cmpl $idt_end, %edi
    jb 1b
    lidt idt_register

    xorl %ecx, %ecx            # XCR0: x87, SSE, AVX and the three parts of AVX-512
    xorl %edx, %edx
    movl $0xe7, %eax
    xsetbv

    pushq arguments+72
    pushq arguments+64
    pushq arguments+56
    pushq arguments+48
    movq arguments, %rdi
    movq arguments+8, %rsi
    movq arguments+16, %rdx
    movq arguments+24, %rcx
    movq arguments+32, %r8
    movq arguments+40, %r9
    movabsq $called, %rax
    cld
    call *%rax

    pushq %rax
    pushq $RETURNED
    pushq marker
    movq %rsp, %rsi
    movl $24, %ecx
    call send
    movl $results, %ebx
2:  cmpl $results_end, %ebx
    jae shutdown
    movq (%rbx), %rsi
    movq 8(%rbx), %rcx
    call send
    addl $16, %ebx
    jmp 2b

send:                          # rcx bytes from rsi
    movl $PORT_OUT, %edx
    cld
    rep outsb
    ret

shutdown:
    movl $shutdown_word, %esi
    movl $8, %ecx
    movl $PORT_SHUTDOWN, %edx
    rep outsb
3:  hlt
    jmp 3b

# One for each exception, of 16 bytes. The processor pushes an error code for some; the others push a 0 in its place.
.balign 16
handlers:
.set vector, 0
.rept 32
    .balign 16
    .if !((0x60227d00 >> vector) & 1)
    pushq $0
    .endif
    pushq $vector
    jmp fault
    .set vector, vector + 1
.endr

fault:                         # on the stack: vector, error code, rip
    movq %cr2, %rax
    pushq %rax
    pushq $FAULTED
    pushq marker
    movq %rsp, %rsi
    movl $48, %ecx
    call send
    jmp shutdown

.globl memcpy, memmove, memset, sched_yield
memmove:
    movq %rdi, %rax
    subq %rsi, %rax
    cmpq %rdx, %rax            # unsigned: the target begins within the source, so copy from the end
    jae memcpy
    movq %rdi, %rax
    movq %rdx, %rcx
    leaq -1(%rdi,%rdx), %rdi
    leaq -1(%rsi,%rdx), %rsi
    std
    rep movsb
    cld
    ret

memcpy:
    movq %rdi, %rax
    movq %rdx, %rcx
    rep movsb
    ret

memset:
    movq %rdi, %r8
    movl %esi, %eax
    movq %rdx, %rcx
    rep stosb
    movq %r8, %rax
    ret

sched_yield:
    xorl %eax, %eax
    ret

.data
marker: .ascii "\0tinymbn"
shutdown_word: .ascii "Shutdown"
idt_register:
    .word idt_end - idt - 1
    .quad idt

.bss
.balign 16
idt: .skip 32 * 16
idt_end:
