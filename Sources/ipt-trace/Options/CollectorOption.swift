import ArgumentParser
import Foundation

/// Which collector is asked.
struct CollectorOption: ParsableArguments {
    @Option(
        name: [.customLong("url"), .customLong("from")],
        help: ArgumentHelp("The collector. Default: $IPT_TRACE_URL, else \(Self.standard).", valueName: "url"))
    var url: String?

    @OptionGroup var token: TokenOption

    private static let standard = "http://127.0.0.1:9100"

    func client() throws -> CollectorClient {
        let environment = ProcessInfo.processInfo.environment["IPT_TRACE_URL"].flatMap { $0.isEmpty ? nil : $0 }
        return CollectorClient(base: url ?? environment ?? Self.standard, token: try token.text())
    }
}
