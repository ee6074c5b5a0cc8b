"""The STM32F7's USART, asynchronous, eight bits, no parity. Source: RM0385, 31.8."""

from __future__ import annotations

from tinymbn.emulators.virtual_mcu.mcu import VirtualMcu
from tinymbn.emulators.virtual_mcu.registers import Register, bits
from tinymbn.emulators.virtual_mcu.serial_line import BITS_A_BYTE, SerialLine
from tinymbn.emulators.virtual_stm32f7.clock_tree import ClockTree
from tinymbn.emulators.virtual_stm32f7.gpio import Gpio, Pin
from tinymbn.emulators.virtual_stm32f7.reset_and_clock import ClockedPeripheral

_UE, _RE, _TE, _RXNEIE, _TCIE, _TXEIE, _OVER8 = 1 << 0, 1 << 2, 1 << 3, 1 << 5, 1 << 6, 1 << 7, 1 << 15
_FE, _ORE, _RXNE, _TC, _TXE, _TEACK, _REACK = 1 << 1, 1 << 3, 1 << 5, 1 << 6, 1 << 7, 1 << 21, 1 << 22
_OVRDIS = 1 << 12
_RXFRQ = 1 << 3

# Another frame than 8N1: of CR1 (parity, word length, mute), of CR2 (stop bits, inversions, synchronous, LIN).
_OTHER_CR1 = bits((13, 12), 10, 28)
_OTHER_CR2 = bits((19, 15), (14, 11), 20, 23)
_OTHER_CR3 = bits(1, 3, 5, 6, 7, 8, 9, 14)

# Polls of the status with nothing in between, after which the rest of a wait is leapt over.
_PATIENCE = 2
_POLL_INSTRUCTIONS = 100  # most from one poll to the next, with one other register read, such as a clock, between
_LONGEST_POLL_S = 1e-3  # of real time, in which a polling core is kept waiting for input


class Usart(ClockedPeripheral):
    """One USART at a serial line.

    Args:
        name: ``USART1`` to ``USART6``.
        base: its address.
        interrupt: its line.
        pins: transmit and receive, with their ports.
        tree: what feeds it.
        line: where it ends.
        mcu: the chip.
    """

    def __init__(
        self,
        name: str,
        base: int,
        interrupt: int,
        pins: tuple[tuple[Gpio, Pin], ...],
        tree: ClockTree,
        line: SerialLine,
        mcu: VirtualMcu,
    ) -> None:
        self._number, self._interrupt = int(name[-1]), interrupt
        self._pins, self._tree, self._line = pins, tree, line
        self._lost = 0
        self._looked_s = self._longest_gap_s = 0.0
        self._baud, self._baud_made_of = 0.0, (-1, 0, 0)
        registers = [
            Register("CR1", 0x00, writable=bits(0, (28, 2))),
            Register("CR2", 0x04, writable=bits((6, 4), (31, 8))),
            Register("CR3", 0x08, writable=bits((15, 0), (19, 17))),
            Register("BRR", 0x0C, writable=bits((15, 0))),
            Register("GTPR", 0x10, writable=bits((15, 0))),
            Register("RTOR", 0x14),
            Register("RQR", 0x18, writable=bits((4, 0)), write_only=True),
            Register("ISR", 0x1C, _TC | _TXE, writable=0),
            Register("ICR", 0x20, writable=bits((4, 0), 6, 8, 9, 11, 12, 17)),
            Register("RDR", 0x24, writable=0),
            Register("TDR", 0x28, writable=bits((8, 0))),
        ]
        bus, bit = ("APB2ENR", 4) if self._number == 1 else ("APB1ENR", 15 + self._number)
        super().__init__(name, base, registers, tree.rcc, bus, bit, mcu)

    def reset(self) -> None:  # noqa: D102
        super().reset()
        self._polls, self._polled_at = 0, (0, 0)
        self._data_free_s = self._sent_s = 0.0  # when TDR is free, and when the last byte has passed the wire
        self._raised = False

    @property
    def baud(self) -> float:
        """The rate that clock and divider make; RM0385, 31.5.4."""
        made_of = self._tree.changes, self["BRR"], self["CR1"] & _OVER8
        if made_of != self._baud_made_of:
            self._baud_made_of = made_of
            divider, clock_hz = self["BRR"], self._tree.rcc.usart_hz(self._number)
            if self["CR1"] & _OVER8:
                divider, clock_hz = divider & 0xFFF0 | (divider & 7) << 1, 2 * clock_hz
            self._baud = clock_hz / max(1, divider)
        return self._baud

    def on_read(self, register: Register) -> int:  # noqa: D102
        if register.name == "ISR":
            self._poll()
        self.advance()
        if register.name == "RDR":
            self._polls = 0
            self["ISR"] &= ~_RXNE
            self._update_interrupt()
        return super().on_read(register)

    def on_write(self, register: Register, value: int) -> None:  # noqa: D102
        self._polls = 0
        self.advance()
        match register.name:
            case "TDR":
                self._transmit(value)
            case "ICR":
                self["ISR"] &= ~value  # write one to clear; the flags stand at the same bits
            case "RQR":
                if value & _RXFRQ:
                    self["ISR"] &= ~_RXNE
            case "CR1":
                self._write_control(value)
            case "BRR":
                if self["CR1"] & _UE:
                    self.report("BRR", "written while the USART is enabled (UE)", value)
                if value < 16:
                    self.report("BRR", "the divider must be at least 16", value)
                self["BRR"] = value
            case name:
                other = {"CR2": _OTHER_CR2, "CR3": _OTHER_CR3}.get(name, 0)
                if self["CR1"] & _UE and (value ^ self[name]) & (other | (_OVRDIS if name == "CR3" else 0)):
                    self.report(name, "written while the USART is enabled (UE)", value)
                if value & other:
                    self.report(name, f"bits 0x{value & other:X} ask for something that is not modelled", value)
                self[name] = value
        self._update_interrupt()

    def _write_control(self, value: int) -> None:
        old = self["CR1"]
        if old & value & _UE and (old ^ value) & (_OTHER_CR1 | _OVER8):
            self.report("CR1", "frame changed while the USART is enabled (UE)", value)
        if value & _OTHER_CR1:
            self.report("CR1", "another frame than 8 bits without parity, which is not modelled", value)
        if old & (_UE | _TE) == _UE | _TE and value & (_UE | _TE) != _UE | _TE and not self["ISR"] & _TC:
            self.report("CR1", "switched off while a byte is on the wire (TC 0)", value)
        self["CR1"] = value
        if not value & _UE:  # RM0385, 31.8.1: all flags are reset
            self["ISR"] = _TC | _TXE
            self._data_free_s = self._sent_s = 0.0
        acknowledged = _TEACK * bool(value & _TE) | _REACK * bool(value & _RE)
        self["ISR"] = self["ISR"] & ~(_TEACK | _REACK) | (acknowledged if value & _UE else 0)
        if value & _UE and not old & _UE:
            if self["BRR"] < 16:
                self.report("BRR", "the USART is enabled without a divider", self["BRR"])
            self._check_pins()

    def _check_pins(self) -> None:
        for port, pin in self._pins:
            if (problem := port.problem(pin)) is not None:
                self._mcu.findings.put(f"pin {problem}", f"{self.name}: {problem}")

    def _transmit(self, value: int) -> None:
        if self["CR1"] & (_UE | _TE) != _UE | _TE:
            self.report("TDR", "written while the transmitter is off; the byte is lost", value)
            return
        if not self["ISR"] & _TXE:
            self.report("TDR", "written while it was full (TXE 0); a byte is lost", value)
            return
        self._check_pins()
        now_s = self._mcu.time.seconds
        begin_s = max(now_s, self._sent_s)
        self._sent_s = begin_s + BITS_A_BYTE / self.baud
        self._data_free_s = begin_s
        self["ISR"] &= ~_TC
        if begin_s > now_s:
            self["ISR"] &= ~_TXE
        self._line.send(value & 0xFF, self.baud)

    def advance(self) -> None:
        """Let happen what is due by now: bytes that have gone, bytes that have come."""
        now_s, status = self._mcu.time.seconds, self._values["ISR"]
        if now_s >= self._data_free_s:
            self._values["ISR"] |= _TXE
        if now_s >= self._sent_s:
            self._values["ISR"] |= _TC
        if self._line.has_arrived(now_s):
            self._receive(now_s)
        self._looked_s = now_s
        if self._values["ISR"] != status:
            self._update_interrupt()

    def _receive(self, now_s: float) -> None:
        listening = self["CR1"] & (_UE | _RE) == _UE | _RE
        while (arrival := self._line.take(now_s, self.baud if listening else None)) is not None:
            if not listening:
                continue
            if arrival.framing_error:
                self["ISR"] |= _FE
            if self["ISR"] & _ORE:
                self._lose()  # reception has stopped until ORE is cleared
            elif not self["ISR"] & _RXNE:
                self["RDR"] = arrival.byte
                self["ISR"] |= _RXNE
            elif self["CR3"] & _OVRDIS:
                self["RDR"] = arrival.byte
                self._lose()
            else:
                self["ISR"] |= _ORE
                self._lose()

    def _lose(self) -> None:
        self._lost += 1
        self._longest_gap_s = max(self._longest_gap_s, self._mcu.time.seconds - self._looked_s)
        text = (
            f"{self.name}: {self._lost} bytes lost that came while the one before was not read (overrun); "
            f"nobody looked for {1e3 * self._longest_gap_s:.3f} ms"
        )
        self._mcu.findings.put(f"{self.name} overrun", text)

    def _update_interrupt(self) -> None:
        status, enabled = self["ISR"], self["CR1"]
        raised = (
            (status & (_RXNE | _ORE) and enabled & _RXNEIE)
            or (status & _TC and enabled & _TCIE)
            or (status & _TXE and enabled & _TXEIE)
        )
        if bool(raised) != self._raised:
            self._raised = bool(raised)
            self._mcu.system.set_line(self._interrupt, self._raised)
            self._mcu.check_interrupts()

    def _poll(self) -> None:
        """The status is read: when that happens again and again, leap to what is waited for."""
        instructions, accesses = self._mcu.instructions, self._mcu.accesses
        near = instructions - self._polled_at[0] < _POLL_INSTRUCTIONS and accesses - self._polled_at[1] <= 2
        self._polled_at = instructions, accesses
        self._polls = self._polls + 1 if near else 0
        if self._polls < _PATIENCE:
            return
        event_s = self.next_event_s()
        if event_s is not None:
            # A byte that has come and is not read is no wait for the next one; one for the transmitter may be.
            if not self["ISR"] & _RXNE or self._sent_s > self._mcu.time.seconds:
                self._mcu.time.skip(event_s - self._mcu.time.seconds, asleep=False)
        elif not self["ISR"] & _RXNE:
            self._mcu.idle(_LONGEST_POLL_S)

    def next_event_s(self) -> float | None:
        """When the next byte has gone or come."""
        now_s = self._mcu.time.seconds
        events = [event for event in (self._data_free_s, self._sent_s) if event > now_s]
        arrival_s = self._line.next_arrival_s()
        return min([*events, *([max(arrival_s, now_s)] if arrival_s is not None else [])], default=None)

    def idle(self, longest_s: float, most_s: float, *, asleep: bool) -> None:
        """Wait in real time for a byte from the computer; ``SerialLine.idle``."""
        self._line.idle(longest_s, most_s, asleep=asleep)
