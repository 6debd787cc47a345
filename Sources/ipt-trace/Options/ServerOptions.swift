import API
import ArgumentParser
import Foundation
import Glibc
import HTTPServer

/// Where HTTP is served, and to whom.
struct ServerOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Where to serve HTTP; may be repeated: 127.0.0.1:9100, [::1]:9100, unix:/run/ipt-trace.sock. Default: 127.0.0.1:9100.",
            valueName: "address"))
    var listen: [String] = []

    @Option(help: ArgumentHelp("A name that requests may be addressed to, such as node1; may be repeated.", valueName: "name"))
    var allowHost: [String] = []

    @OptionGroup var token: TokenOption

    private static let usual = "127.0.0.1:9100"

    /// - Throws: `CommandFailure` for an address that is none, or that others reach while no token keeps them out.
    func addresses() throws -> [ListenAddress] {
        do {
            let addresses = try (listen.isEmpty ? [Self.usual] : listen).map { try ListenAddress($0) }
            if token.file == nil, let open = addresses.first(where: { !$0.isOfThisMachine }) {
                throw CommandFailure(
                    message:
                        "\(open.text) can be reached from other machines: name a file with a token that clients have to show "
                        + "(--token-file), or listen on 127.0.0.1", code: ExitStatus.usage)
            }
            return addresses
        } catch let error as EndpointError {
            throw CommandFailure(message: "\(error)", code: ExitStatus.usage)
        }
    }

    var allowedHosts: Set<String> { Set(allowHost.map { $0.lowercased() }) }
}

/// The token that clients of an endpoint have to show.
struct TokenOption: ParsableArguments {
    @Option(
        name: .customLong("token-file"),
        help: ArgumentHelp("A file with the token that clients have to show (16 characters or more).", valueName: "file"))
    var file: String?

    /// The file's text without blanks around it; `nil` where no file is named.
    func text() throws -> String? {
        guard let file else { return nil }
        guard let data = FileManager.default.contents(atPath: file) else {
            throw CommandFailure(message: "cannot read the token in \(file)")
        }
        let text = String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        guard AccessToken(text) != nil else {
            throw CommandFailure(
                message: "\(file) holds no token: one line of 16 characters or more, without blanks, such as what "
                    + "openssl rand -hex 32 prints", code: ExitStatus.usage)
        }
        return text
    }

    func token() throws -> AccessToken? { try text().flatMap { AccessToken($0) } }
}
