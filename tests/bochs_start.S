# What runs before and after the function: from the reset vector to 64-bit mode, the call, its results to the disk.
#
# bochs.py links it with the function under test and defines `called` (the function), `page_tables` (in RAM, which it
# fills), `stack_top`, `ram` and `ram_end` (its image, which ends with RAM_MARK), and the tables `arguments` (ten) and
# `results` (pairs of the first sector's address and their number).
# The end is reported to PORT_OUT, in quadwords: `marker`, RETURNED and rax, or FAULTED and what the processor tells.

.set PORT_OUT, 0xe9            # Bochs writes its bytes to its standard output
.set PORT_SHUTDOWN, 0x8900     # Bochs ends when this word arrives
.set RETURNED, 0
.set FAULTED, 1
.set RAM_MARK, 0x6d626e21

# The processor begins in real mode 16 bytes below 4 GB. That is our ROM: there is no BIOS to wait for.
.section .rom, "ax"
.code16
real_mode:
    lgdtl %cs:(gdt_register - real_mode)
    movl $1, %eax              # CR0.PE
    movl %eax, %cr0
    ljmpl $0x08, $protected_mode

# Bochs reads the image of the RAM in one piece into memory of its own, of which the guest's blocks of 128 KB take the
# next piece each when they are first touched. So the first touches have to be in order, before anything is in RAM.
.code32
protected_mode:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $ram, %ebx
1:  movl (%ebx), %eax
    addl $0x20000, %ebx
    cmpl $ram_end, %ebx
    jb 1b
    cmpl $RAM_MARK, ram_end - 4
    jne 2f
    ljmpl $0x08, $in_ram
2:  ud2                        # without an IDT this ends Bochs
.balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff   # 0x08: 32-bit code
    .quad 0x00cf93000000ffff   # 0x10: data
gdt_register:
    .word . - gdt - 1
    .long gdt
.org 0xfff0
.code16
    jmp real_mode
.balign 16, 0xff

.text
.code32
in_ram:
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
    lgdtl gdt_64_register      # the ROM is not mapped
    ljmpl $0x08, $long_mode

.code64
long_mode:
    movl $stack_top, %esp
    movl $idt, %edi            # each gate holds its handler's address in three pieces, which no relocation can write
    movl $handlers, %eax
1:  movw %ax, (%rdi)
    movl $0x8e000008, 2(%rdi)  # 64-bit code, an interrupt gate
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

    pushq %rax                 # before the results, so that a fault while they are sent is not taken for theirs
    movl $results, %edi
    xorl %ebx, %ebx            # the next sector of the disk
2:  cmpl $results_end, %edi
    jae 4f
    movq (%rdi), %rsi
    movq 8(%rdi), %rbp
    addl $16, %edi
3:  decq %rbp
    js 2b
    call write_sector
    incl %ebx
    jmp 3b
4:  pushq $RETURNED
    pushq marker
    movl $24, %ecx

report:                        # what is on the stack, of rcx bytes
    movq %rsp, %rsi
    movl $PORT_OUT, %edx
    cld
    rep outsb
    movl $shutdown_word, %esi
    movl $8, %ecx
    movl $PORT_SHUTDOWN, %edx
    rep outsb
5:  hlt
    jmp 5b

write_sector:                  # number ebx, from rsi on, which it advances. The disk is far faster than PORT_OUT
    movl $0x1f2, %edx
    movb $1, %al               # one sector
    outb %al, %dx
    movl %ebx, %eax
    movl $3, %ecx
6:  incl %edx                  # the number, in three ports of 8 bits and one of 4
    outb %al, %dx
    shrl $8, %eax
    loop 6b
    incl %edx
    orb $0xe0, %al             # the first disk, and that it is a number
    outb %al, %dx
    incl %edx
    movb $0x30, %al            # write
    outb %al, %dx
7:  inb %dx, %al
    andb $0x88, %al            # busy, ready for data
    cmpb $0x08, %al
    jne 7b
    movl $0x1f0, %edx
    movl $256, %ecx
    rep outsw
    movl $0x1f7, %edx
8:  inb %dx, %al
    testb $0x80, %al
    jnz 8b
    ret

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
    movl $48, %ecx
    jmp report

.globl real_mode, memcpy, memmove, memset, sched_yield
memmove:
    movq %rdi, %rax
    subq %rsi, %rax
    cmpq %rdx, %rax            # unsigned: the target begins within the source, so copy from the end
    jae memcpy
    movq %rdi, %rax
    leaq -1(%rdi,%rdx), %rdi
    leaq -1(%rsi,%rdx), %rsi
    std
    movl %edx, %ecx
    andl $7, %ecx
    rep movsb
    subq $7, %rdi
    subq $7, %rsi
    movq %rdx, %rcx
    shrq $3, %rcx
    rep movsq
    cld
    ret

memcpy:                        # by quadwords: a byte takes Bochs as long
    movq %rdi, %rax
    movq %rdx, %rcx
    shrq $3, %rcx
    rep movsq
    movl %edx, %ecx
    andl $7, %ecx
    rep movsb
    ret

memset:
    movq %rdi, %r8
    movzbl %sil, %esi
    movabsq $0x0101010101010101, %rax
    imulq %rsi, %rax
    movq %rdx, %rcx
    shrq $3, %rcx
    rep stosq
    movl %edx, %ecx
    andl $7, %ecx
    rep stosb
    movq %r8, %rax
    ret

sched_yield:
    xorl %eax, %eax
    ret

.data
.balign 8
marker: .ascii "\0tinymbn"
shutdown_word: .ascii "Shutdown"
gdt_64: .quad 0, 0x00af9b000000ffff
gdt_64_register:
    .word . - gdt_64 - 1
    .long gdt_64
idt_register:
    .word idt_end - idt - 1
    .quad idt

.bss
.balign 16
idt: .skip 32 * 16
idt_end:

.section .note.GNU-stack, "", @progbits
