/// What could not be read, by place: the first ones in words, all of them counted.
public struct Problems: Sendable, Equatable {
    static let limit = 20

    public private(set) var messages: [String] = []
    public private(set) var count: UInt64 = 0

    mutating func add(_ message: @autoclosure () -> String) {
        count += 1
        if messages.count < Self.limit { messages.append(message()) }
    }
}
