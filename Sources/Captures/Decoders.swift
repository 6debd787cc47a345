private import CZlib
private import CZstd

/// gzip (RFC 1952) through zlib: any number of members behind one another.
@safe final class GzipDecoder {
    private var stream = unsafe z_stream()
    private var isBetweenMembers = false
    private let isReady: Bool

    init() {
        // 15 bits of window, and 16 for gzip's header rather than zlib's.
        isReady = unsafe inflateInit2_(&stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
    }

    deinit { unsafe inflateEnd(&stream) }

    var isComplete: Bool { isBetweenMembers }

    func unpack(_ input: [UInt8], _ range: Range<Int>, _ output: inout [UInt8], _ start: Int) throws(UnpackError)
        -> ByteStream.Progress
    {
        guard isReady else { throw UnpackError(message: "zlib has no memory") }
        if isBetweenMembers, !range.isEmpty {
            unsafe inflateReset(&stream)
            isBetweenMembers = false
        }
        let room = output.count - start
        var status = Z_OK
        unsafe input.withUnsafeBufferPointer { input in
            unsafe output.withUnsafeMutableBufferPointer { output in
                // zlib does not write to its input, though its type says so.
                unsafe stream.next_in = UnsafeMutablePointer(mutating: input.baseAddress?.advanced(by: range.lowerBound))
                unsafe stream.avail_in = UInt32(range.count)
                unsafe stream.next_out = output.baseAddress?.advanced(by: start)
                unsafe stream.avail_out = UInt32(clamping: room)
                status = unsafe inflate(&stream, Z_NO_FLUSH)
            }
        }
        let progress = unsafe ByteStream.Progress(
            consumed: range.count - Int(stream.avail_in), produced: Int(UInt32(clamping: room) - stream.avail_out))
        switch status {
        case Z_OK, Z_BUF_ERROR: return progress
        case Z_STREAM_END:
            isBetweenMembers = true
            return progress
        default:
            // The bytes unpacked before are good.
            if progress.produced > 0 { return progress }
            throw UnpackError(message: "the compressed data is damaged")
        }
    }
}

/// zstd (RFC 8878) through libzstd: any number of frames behind one another.
@safe final class ZstdDecoder {
    private let context = unsafe ZSTD_createDStream()
    private(set) var isComplete = false

    deinit { unsafe ZSTD_freeDStream(context) }

    func unpack(_ input: [UInt8], _ range: Range<Int>, _ output: inout [UInt8], _ start: Int) throws(UnpackError)
        -> ByteStream.Progress
    {
        guard unsafe context != nil else { throw UnpackError(message: "zstd has no memory") }
        let room = output.count - start
        var progress = ByteStream.Progress(consumed: 0, produced: 0)
        var status = 0
        unsafe input.withUnsafeBytes { input in
            unsafe output.withUnsafeMutableBytes { output in
                var from = unsafe ZSTD_inBuffer(src: input.baseAddress, size: range.upperBound, pos: range.lowerBound)
                var to = unsafe ZSTD_outBuffer(dst: output.baseAddress?.advanced(by: start), size: room, pos: 0)
                status = unsafe ZSTD_decompressStream(context, &to, &from)
                unsafe progress.consumed = from.pos - range.lowerBound
                unsafe progress.produced = to.pos
            }
        }
        guard ZSTD_isError(status) == 0 else {
            if progress.produced > 0 { return progress }
            throw UnpackError(message: "the compressed data is damaged")
        }
        if !range.isEmpty || progress.produced > 0 { isComplete = status == 0 }
        return progress
    }
}
