/// The page for people: one document with its style and script inside, which shows a collector's reports or those of a file.
public enum WebPage {
    /// The page that a collector serves; it asks for the reports itself.
    ///
    /// - Parameters:
    ///   - nonce: as in `policy(nonce:)`; another one for each answer.
    ///   - hasEvents: whether the server tells of what happens (`/events`); else the page asks now and then.
    public static func live(nonce: String, hasEvents: Bool) -> [UInt8] {
        page(nonce: nonce, policy: nil, recorded: Array((hasEvents ? "null" : "false").utf8))
    }

    /// The page with its reports inside, to be opened from a file or sent to somebody. It asks nobody for anything.
    ///
    /// - Parameter reports: a JSON object with the answer of each route by its name without the slash (`paths`, `findings`, …), and
    ///   below `journeys` single journeys by their identifiers.
    public static func recorded(_ reports: [UInt8]) -> [UInt8] {
        let nonce = makeNonce()
        return page(nonce: nonce, policy: content(nonce), recorded: escaped(reports))
    }

    /// What the page may do (Content-Security-Policy): run its own script and style, ask the server that it is from, nothing else.
    public static func policy(nonce: String) -> String {
        content(nonce) + "; frame-ancestors 'none'"
    }

    private static func content(_ nonce: String) -> String {
        "default-src 'none'; script-src 'nonce-\(nonce)'; style-src 'nonce-\(nonce)'; connect-src 'self'; base-uri 'none'; "
            + "form-action 'none'"
    }

    /// 128 random bits.
    public static func makeNonce() -> String {
        (0..<2).map { _ in
            let digits = String(UInt64.random(in: 0...UInt64.max), radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }.joined()
    }

    private static let script =
        [PackageResources.api_js, PackageResources.text_js, PackageResources.stack_js, PackageResources.views_js]
        .reduce([]) { $0 + $1 + [0x0A] } + PackageResources.page_js

    /// The text of the document and the places in it that are filled in: `@NAME@`.
    private static let template: [(text: [UInt8], place: String)] = {
        let parts = PackageResources.page_html.split(separator: UInt8(ascii: "@"), omittingEmptySubsequences: false)
        return stride(from: 0, to: parts.count, by: 2).map { index in
            (Array(parts[index]), index + 1 < parts.count ? String(decoding: parts[index + 1], as: UTF8.self) : "")
        }
    }()

    private static func page(nonce: String, policy: String?, recorded: [UInt8]) -> [UInt8] {
        var page: [UInt8] = []
        for part in template {
            page += part.text
            switch part.place {
            case "NONCE": page += Array(nonce.utf8)
            case "POLICY":
                guard let policy else { break }
                page += Array("<meta http-equiv=\"Content-Security-Policy\" content=\"\(policy)\">".utf8)
            case "STYLE": page += PackageResources.page_css
            case "SCRIPT": page += script
            case "DATA": page += recorded
            default: break
            }
        }
        return page
    }

    /// JSON that can stand in a document: `<` is in its strings only, and would end the element that holds it in `</script>`.
    private static func escaped(_ json: [UInt8]) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity(json.count)
        for byte in json {
            if byte == UInt8(ascii: "<") { text += Array("\\u003c".utf8) } else { text.append(byte) }
        }
        return text
    }
}
