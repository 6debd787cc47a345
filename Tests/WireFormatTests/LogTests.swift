import Testing
import TraceModel
import WireFormat

/// 2026-11-21 12:00:00 UTC.
private let reference: Int64 = 1_795_262_400

private func line(_ text: String, zone: Int64 = 0) -> (LogLine, message: String) {
    let bytes = Array(text.utf8)
    let parsed = LogLine(
        parsing: bytes.octets, 0..<bytes.count, context: LogLine.Context(reference: reference, zone: zone))
    return (parsed, String(decoding: bytes[parsed.message], as: UTF8.self))
}

private func packet(_ text: String) throws -> (LogPacket, prefix: String, input: String, output: String)? {
    let bytes = Array(text.utf8)
    guard let logged = try LogPacket(parsing: bytes.octets, message: 0..<bytes.count, seed: 1) else { return nil }
    func part(_ range: Range<Int>) -> String { String(decoding: bytes[range], as: UTF8.self) }
    return (logged, part(logged.prefix), part(logged.inInterface), part(logged.outInterface))
}

@Suite struct LogLineTests {
    struct Form: CustomTestStringConvertible {
        var testDescription: String
        var text: String
        var wall: Int64?
        var boot: Int64?

        init(_ name: String, _ text: String, wall: Int64? = nil, boot: Int64? = nil) {
            testDescription = name
            self.text = text
            self.wall = wall
            self.boot = boot
        }
    }

    /// 2026-11-21 10:59:20 UTC.
    static let moment: Int64 = 1_795_258_760_000_000

    static let forms = [
        Form("/dev/kmsg", "4,1868,9165543707,-;", boot: 9_165_543_707),
        Form("/dev/kmsg, continued", "12,1868,9165543707,c,caller=T12;", boot: 9_165_543_707),
        Form("dmesg", "[ 9165.543707] ", boot: 9_165_543_707),
        Form("dmesg with callers", "[ 9165.543707][  T123] ", boot: 9_165_543_707),
        Form("dmesg -x", "kern  :warn  : [ 9165.543707] ", boot: 9_165_543_707),
        Form("dmesg -T", "[Sat Nov 21 10:59:20 2026] ", wall: moment),
        Form("dmesg --time-format iso", "2026-11-21T10:59:20,657368+00:00 ", wall: moment + 657_368),
        Form("journalctl -o short-full", "Sat 2026-11-21 10:59:20 UTC router kernel: ", wall: moment),
        Form("journalctl -o short", "Nov 21 10:59:20 router kernel: ", wall: moment),
        Form("journalctl -o short-precise", "Nov 21 10:59:20.123456 router kernel: ", wall: moment + 123_456),
        Form("journalctl -o short-iso", "2026-11-21T11:59:20+0100 router kernel: ", wall: moment),
        Form("journalctl -o short-iso-precise", "2026-11-21T10:59:20.123456+0000 router kernel: ", wall: moment + 123_456),
        Form("journalctl -o short-monotonic", "[ 9165.543707] router kernel: ", boot: 9_165_543_707),
        Form(
            "syslog with the kernel's time", "Nov 21 10:59:20 router kernel: [ 9165.543707] ", wall: moment, boot: 9_165_543_707
        ),
        Form("syslog of another year", "Dec 31 23:59:59 router kernel: ", wall: 1_767_225_599_000_000),
        Form("rsyslog, RFC 3339", "2026-11-21T10:59:20.123456Z router kernel: ", wall: moment + 123_456),
        Form("RFC 5424", "<4>1 2026-11-21T10:59:20.5Z router kernel - - - ", wall: moment + 500_000),
        Form("/proc/kmsg", "<4>[ 9165.543707] ", boot: 9_165_543_707),
        Form(
            "OpenWrt's logread", "Sat Nov 21 10:59:20 2026 kern.warn kernel: [ 9165.543707] ", wall: moment, boot: 9_165_543_707
        ),
        Form("the year first", "2026 Nov 21 10:59:20 router kernel: ", wall: moment),
        Form("journalctl -o short-unix", "1795258760.123456 router kernel: ", wall: moment + 123_456),
        Form("dmesg -H", "[Nov21 10:59] ", wall: moment - 20_000_000),
        Form("dmesg -d", "[ 9165.543707 <    0.000012>] ", boot: 9_165_543_707),
        Form("klogd", "Nov 21 10:59:20 router klogd: ", wall: moment),
        Form(
            "RFC 5424 with PROCID and structured data",
            #"<4>1 2026-11-21T10:59:20.5Z router kernel 1 ID [meta sequenceId="17"][x@1 a="\]"] "#, wall: moment + 500_000),
        Form("a relayed head", "Nov 21 11:00:01 192.168.1.1 Nov 21 10:59:20 router kernel: ", wall: moment),
        Form("grep -H", "/var/log/kern.log:Nov 21 10:59:20 router kernel: ", wall: moment),
        Form("grep -Hn", "kern.log:12:Nov 21 10:59:20 router kernel: [ 9165.543707] ", wall: moment, boot: 9_165_543_707),
        Form("a leap day without a year", "Feb 29 12:00:00 router kernel: ", wall: 1_709_208_000_000_000),
        Form("nothing", ""),
    ]

    @Test("times and where the message begins", arguments: forms)
    func everyForm(_ form: Form) {
        for message in [
            "HOST_FILTER_INPUT IN=eth0 OUT= SRC=10.0.0.1", "FINAL-REJECT: IN=a OUT=", "TRACE: raw:OUTPUT:policy:2 IN= OUT=lo",
        ] {
            let (parsed, rest) = line(form.text + message)
            #expect(rest == message)
            #expect(parsed.wallTime == form.wall)
            #expect(parsed.bootTime == form.boot)
        }
    }

    @Test func aTimeWithoutZoneIsLocal() {
        #expect(line("Nov 21 10:59:20 router kernel: x", zone: 3600).0.wallTime == Self.moment - 3_600_000_000)
        #expect(line("2026-11-21 10:59:20 router kernel: x", zone: -3600).0.wallTime == Self.moment + 3_600_000_000)
    }

    @Test("a line of ulogd2's syslogemu is read without its host; another program's line is not")
    func emulatedSyslog() {
        let text = "INPUT ICMP:  IN=lan0 OUT= SRC=10.0.1.2 DST=10.0.1.1 LEN=60 PROTO=TCP MARK=0x0 "
        let (parsed, message) = line("Nov 21 10:59:20 vm " + text)
        #expect(message == text && parsed.wallTime == Self.moment)
        #expect(line("Nov 21 10:59:20 vm evil: " + text).1 == "")
        #expect(line("Nov 21 10:59:20 evil: " + text).1 == "")
        #expect(line("Nov 21 10:59:20 vm evil: IN=lan0 OUT= LEN=60 PROTO=TCP").1 == "")
    }

    @Test func cutAnywhereNothingTraps() {
        for form in Self.forms {
            let text = form.text + "HOST_FILTER_INPUT IN=eth0 OUT= SRC=10.0.0.1"
            for end in 0...text.utf8.count {
                let (parsed, _) = line(String(text.prefix(end)))
                #expect(parsed.message.upperBound == text.prefix(end).utf8.count)
            }
        }
    }
}

@Suite struct LogPacketTests {
    // As Linux 6.18 wrote them.
    static let udp =
        "it:d42e13:0:m:FORWARD IN=br0 OUT=eth0 PHYSIN=vHOST MAC=7a:fc:09:e3:94:cc:76:b7:48:30:5c:ff:08:00 SRC=172.16.0.2 "
        + "DST=8.8.8.8 LEN=31 TOS=0x00 PREC=0x00 TTL=63 ID=46328 DF PROTO=UDP SPT=38934 DPT=99 LEN=11 MARK=0x2a "
    static let error =
        "it:d42e13:0:m:FORWARD IN=eth0 OUT=br0 MAC=e2:18:75:b2:11:3d:22:d7:36:3d:5f:fe:08:00 SRC=8.8.8.8 DST=172.16.0.2 "
        + "LEN=59 TOS=0x00 PREC=0xC0 TTL=63 ID=57405 PROTO=ICMP TYPE=3 CODE=3 [SRC=172.16.0.2 DST=8.8.8.8 LEN=31 TOS=0x00 "
        + "PREC=0x00 TTL=63 ID=46328 DF PROTO=UDP SPT=38934 DPT=99 LEN=11 ] MARK=0x2a "
    static let tcp =
        "x IN= OUT=lo SRC=127.0.0.1 DST=127.0.0.1 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=0 DF PROTO=TCP SPT=9100 DPT=41086 "
        + "SEQ=123456789 ACK=987654321 WINDOW=65483 RES=0x00 ACK SYN URGP=0 OPT (0204FFD7) "
    static let fragment =
        "x IN=up0 OUT= MAC=22:d7:36:3d:5f:fe:e2:18:75:b2:11:3d:08:00 SRC=10.0.2.15 DST=8.8.8.8 LEN=1500 TOS=0x00 PREC=0x00 "
        + "TTL=63 ID=64005 MF FRAG:185 PROTO=ICMP "
    static let ping6 =
        "fw IN=eth0 OUT= MAC=22:d7:36:3d:5f:fe:e2:18:75:b2:11:3d:86:dd SRC=fd00:0001:0000:0000:0000:0000:0000:0001 "
        + "DST=fd00:0001:0000:0000:0000:0000:0000:0002 LEN=104 TC=0 HOPLIMIT=64 FLOWLBL=401234 PROTO=ICMPv6 TYPE=128 CODE=0 "
        + "ID=55 SEQ=3 MARK=0x1f "

    @Test func aForwardedDatagram() throws {
        let found = try #require(try packet(Self.udp))
        let packet = found.0.packet
        #expect(found.prefix == "it:d42e13:0:m:FORWARD " && found.input == "br0" && found.output == "eth0")
        #expect("\(packet.tuple)" == "udp 172.16.0.2:38934 → 8.8.8.8:99")
        #expect(packet.length == 31 && packet.timeToLive == 63 && found.0.mark == 42 && !packet.isFragment)
    }

    @Test func anErrorWithThePacketThatCausedIt() throws {
        let found = try #require(try packet(Self.error))
        let packet = found.0.packet
        #expect("\(packet.tuple)" == "icmp 8.8.8.8 → 172.16.0.2")
        #expect(packet.icmpType == 3 && packet.icmpCode == 3 && packet.length == 59 && found.0.mark == 42)
        // Translation rewrites the inner addresses too; another inner packet is another error.
        let translated = Self.error.replacing("SRC=172.16.0.2", with: "SRC=10.0.2.15").replacing("DST=172", with: "DST=173")
        #expect(try self.fingerprint(translated) == packet.fingerprint)
        #expect(try self.fingerprint(Self.error.replacing("ID=46328", with: "ID=46329")) != packet.fingerprint)
    }

    private func fingerprint(_ text: String) throws -> Fingerprint? { try packet(text)?.0.packet.fingerprint }

    @Test func aSegmentWithSequenceNumbersAndOptions() throws {
        let packet = try #require(try packet(Self.tcp)).0.packet
        #expect("\(packet.tuple)" == "tcp 127.0.0.1:9100 → 127.0.0.1:41086")
        #expect(packet.tcpFlags == [.syn, .ack] && packet.length == 60)
        #expect(try fingerprint(Self.tcp.replacing("SEQ=123456789", with: "SEQ=123456780")) != packet.fingerprint)
        #expect(try fingerprint(Self.tcp.replacing("ACK SYN", with: "SYN")) != packet.fingerprint)
    }

    @Test func aPieceOfAPacket() throws {
        let packet = try #require(try packet(Self.fragment)).0.packet
        #expect(packet.isFragment && packet.tuple.transport == TransportProtocol.icmp)
        #expect(try fingerprint(Self.fragment.replacing("FRAG:185", with: "FRAG:370")) != packet.fingerprint)
    }

    @Test func six() throws {
        let found = try #require(try packet(Self.ping6))
        let packet = found.0.packet
        #expect("\(packet.tuple.source)" == "fd00:1::1" && "\(packet.tuple.destination)" == "fd00:1::2")
        #expect(packet.tuple.sourcePort == 55 && packet.icmpSequence == 3 && packet.icmpType == 128)
        #expect(packet.length == 104 && packet.timeToLive == 64 && found.0.mark == 31)
    }

    @Test(
        "what routers and translation change is not part of the fingerprint",
        arguments: [
            ("TTL=63", "TTL=62"), ("SRC=172.16.0.2", "SRC=10.0.2.15"), ("DST=8.8.8.8", "DST=9.9.9.9"),
            ("SPT=38934", "SPT=1024"),
            ("DPT=99", "DPT=53"), ("MARK=0x2a", ""), ("TOS=0x00", "TOS=0x10"), ("IN=br0 OUT=eth0", "IN= OUT=eth1"),
            ("PHYSIN=vHOST ", ""), ("it:d42e13:0:m:FORWARD", "whatever"),
        ])
    func leftAlone(_ before: String, _ after: String) throws {
        #expect(Self.udp.contains(before))
        #expect(try fingerprint(Self.udp.replacing(before, with: after)) == fingerprint(Self.udp))
    }

    @Test(arguments: [("ID=46328", "ID=46329"), ("LEN=31", "LEN=32"), ("LEN=11", "LEN=12"), ("PROTO=UDP", "PROTO=TCP")])
    func whatTellsPacketsApart(_ before: String, _ after: String) throws {
        #expect(try fingerprint(Self.udp.replacing(before, with: after)) != fingerprint(Self.udp))
    }

    @Test(
        "messages that LOG did not write",
        arguments: ["", "br0: port 1(vHOST) entered blocking state", "IN= OUT", "usb 1-1: OUT=x", "foo OUT=eth0 IN=", " OUT="])
    func others(_ text: String) throws {
        #expect(try packet(text) == nil)
    }

    @Test(
        "lines that are not whole say what is missing",
        arguments: [
            ("x IN=a OUT= ", "SRC"), ("x IN=a OUT= SRC=1.2.3.4 ", "DST"),
            ("x IN=a OUT= SRC=1.2.3.4 DST=5.6.7.8 LEN=84", "PROTO"),
            ("x IN=a OUT= SRC=1.2.3.400 DST=5.6.7.8 PROTO=UDP", "SRC"),
            ("x IN=a OUT= SRC=1.2.3.4 DST=fe80::1 PROTO=UDP", "DST"),
        ])
    func incomplete(_ text: String, _ field: String) {
        #expect { try packet(text) } throws: { error in
            if case .missingField(_, let name)? = error as? ParseError { return name == field }
            return false
        }
    }

    @Test func thePrefixMayTouchTheFieldsAndHoldWhatLooksLikeOne() throws {
        #expect(try packet("HOST_FILTER_INPUTIN=eth0 OUT= SRC=1.2.3.4 DST=5.6.7.8 PROTO=2")?.prefix == "HOST_FILTER_INPUT")
        #expect(try packet("IN=x: IN=eth0 OUT= SRC=1.2.3.4 DST=5.6.7.8 PROTO=2")?.prefix == "IN=x: ")
        #expect(try packet("IN= OUT=lo SRC=1.2.3.4 DST=5.6.7.8 PROTO=2")?.prefix == "")
    }

    @Test(
        arguments: [
            ("::", "::"), ("::1", "::1"), ("fe80::1:2", "fe80::1:2"), ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
            ("2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1"), ("1::", "1::"),
        ])
    func addressesOfSix(_ written: String, _ canonical: String) throws {
        #expect("\(try #require(try packet("IN=a OUT= SRC=\(written) DST=::2 PROTO=UDP")).0.packet.tuple.source)" == canonical)
    }

    @Test(arguments: ["1:2:3", "1:2:3:4:5:6:7:8:9", "1::2::3", "12345::", ":1:2:3:4:5:6:7:8", "1.2.3", "1.2.3.4.5", "g::1", ""])
    func noAddresses(_ written: String) {
        #expect(throws: ParseError.self) { try packet("IN=a OUT= SRC=\(written) DST=::2 PROTO=UDP") }
    }
}
