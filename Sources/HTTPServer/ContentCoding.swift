private import CZlib
private import CZstd
internal import HTTPTypes

/// How an answer's content is made smaller on its way (RFC 9110, section 8.4).
enum ContentCoding: String {
    case zstd, gzip

    /// Shorter content is sent as it is.
    private static let shortest = 1024

    /// The one that a client takes, zstd before gzip; `nil` for none.
    ///
    /// - Parameter accepted: an Accept-Encoding field, such as `gzip, zstd;q=0.5, br;q=0`.
    init?(accepted: String?) {
        guard let accepted else { return nil }
        var weights: [String: Double] = [:]
        for item in accepted.lowercased().split(separator: ",") {
            let parts = item.split(separator: ";").map { $0.filter { $0 != " " && $0 != "\t" } }
            guard let name = parts.first, !name.isEmpty else { continue }
            let weight = parts.dropFirst().first { $0.hasPrefix("q=") }.map { Double($0.dropFirst(2)) ?? 0 }
            weights[name] = weight ?? 1
        }
        let candidates: [ContentCoding] = [.zstd, .gzip]
        let best = candidates.map { ($0, weights[$0.rawValue] ?? weights["*"] ?? 0) }.filter { $0.1 > 0 }
        guard let most = best.map(\.1).max(), let choice = best.first(where: { $0.1 == most }) else { return nil }
        self = choice.0
    }

    /// - Returns: `nil` where it gets no smaller.
    fileprivate func encoded(_ content: [UInt8]) -> [UInt8]? {
        guard content.count >= Self.shortest else { return nil }
        let result = self == .zstd ? Self.zstd(content) : Self.gzip(content)
        return result.flatMap { $0.count < content.count ? $0 : nil }
    }

    private static func zstd(_ content: [UInt8]) -> [UInt8]? {
        let bound = ZSTD_compressBound(content.count)
        var buffer = [UInt8](repeating: 0, count: bound)
        let count = unsafe ZSTD_compress(&buffer, bound, content, content.count, 3)
        guard ZSTD_isError(count) == 0 else { return nil }
        return Array(buffer[..<count])
    }

    private static func gzip(_ content: [UInt8]) -> [UInt8]? {
        var stream = unsafe z_stream()
        // 16 more than the largest window: with gzip's header and trailer (zlib.h).
        guard
            unsafe deflateInit2_(
                &stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
                == Z_OK
        else { return nil }
        defer { unsafe deflateEnd(&stream) }
        var buffer = [UInt8](repeating: 0, count: content.count + 64)
        var input = content
        let isDone = unsafe input.withUnsafeMutableBufferPointer { source in
            unsafe buffer.withUnsafeMutableBufferPointer { target in
                unsafe stream.next_in = source.baseAddress
                unsafe stream.avail_in = UInt32(clamping: source.count)
                unsafe stream.next_out = target.baseAddress
                unsafe stream.avail_out = UInt32(clamping: target.count)
                return unsafe deflate(&stream, Z_FINISH) == Z_STREAM_END
            }
        }
        guard isDone else { return nil }
        return Array(unsafe buffer[..<Int(stream.total_out)])
    }
}

extension EndpointResponse {
    /// Encodes the content, where the client accepts that and it gets smaller.
    func coded(_ coding: ContentCoding?) -> EndpointResponse {
        guard head.status == .ok else { return self }
        var response = self
        // Whatever stands in between must not give one client's to another.
        response.head.headerFields[.vary] = "Accept-Encoding"
        guard let coding, let encoded = coding.encoded(body) else { return response }
        response.head.headerFields[.contentEncoding] = coding.rawValue
        response.body = encoded
        return response
    }
}
